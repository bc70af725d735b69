# Until init-data brings a policy, the agent does nothing that the host asks for: a guest without one fails closed.
package agent_policy

default AllowRequestsFailingPolicy := false
