//! A predicted log beside an observed one, event by event.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use super::{Event, EventLog, EventType, Register, Subject};

/// An event that was predicted, observed, or both.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Row<'a> {
    /// What happened was predicted.
    Equal { predicted: &'a Event, observed: &'a Event },
    /// In this place something of the same type was predicted, and measured otherwise.
    Changed { predicted: &'a Event, observed: &'a Event },
    /// It was predicted and did not happen.
    Missing { predicted: &'a Event },
    /// It happened and was not predicted.
    Unexpected { observed: &'a Event },
    /// It happened, and no image can predict it.
    Unpredictable { observed: &'a Event, reason: &'static str },
}

impl Row<'_> {
    /// Returns whether the prediction holds as far as this event goes.
    pub const fn holds(&self) -> bool {
        matches!(self, Self::Equal { .. } | Self::Unpredictable { .. })
    }

    /// Returns the event, as it was predicted if it was.
    pub const fn event(&self) -> &Event {
        match self {
            Self::Equal { predicted, .. } | Self::Changed { predicted, .. } | Self::Missing { predicted } => predicted,
            Self::Unexpected { observed } | Self::Unpredictable { observed, .. } => observed,
        }
    }
}

/// Returns the events of both logs side by side, in the order of the observed one; those that did not happen come where
/// their register should have had them. Registers of which nothing was predicted are left out.
///
/// Each register is compared for itself: it is a chain of hashes, and the order between registers reaches none of them.
pub fn compare<'a>(predicted: &'a EventLog, observed: &'a EventLog) -> Vec<Row<'a>> {
    let registers: BTreeSet<_> = predicted.events.iter().map(|event| event.register).collect();
    let rows = |register: &Register| {
        (
            *register,
            align(&extends(predicted, *register), &extends(observed, *register)),
        )
    };
    let mut rows: BTreeMap<_, VecDeque<_>> = registers.iter().map(rows).collect();
    let mut ordered = Vec::new();
    for event in &observed.events {
        let Some(rows) = rows.get_mut(&event.register) else {
            continue;
        };
        while let Some(row) = rows.pop_front_if(|row| matches!(row, Row::Missing { .. })) {
            ordered.push(row);
        }
        ordered.extend(rows.pop_front());
    }
    ordered.extend(rows.into_values().flatten());
    ordered
}

/// Returns the events that extend a register, in their order.
fn extends(log: &EventLog, register: Register) -> Vec<&Event> {
    log.of(register)
        .filter(|event| event.kind != EventType::NO_ACTION)
        .collect()
}

/// Returns the events of one register side by side.
fn align<'a>(mut predicted: &[&'a Event], mut observed: &[&'a Event]) -> VecDeque<Row<'a>> {
    let mut rows = VecDeque::new();
    let mut before = None;
    while let (Some(expected), Some(event)) = (predicted.first(), observed.first()) {
        let (row, of_predicted, of_observed) = match (unpredictable(event, before), resume(predicted, observed)) {
            (_, (0, 0)) => (pair(expected, event), 1, 1),
            (Some(reason), _) => (
                Row::Unpredictable {
                    observed: event,
                    reason,
                },
                0,
                1,
            ),
            (None, (0, _)) => (Row::Unexpected { observed: event }, 0, 1),
            (None, (_, 0)) => (Row::Missing { predicted: expected }, 1, 0),
            _ if expected.kind == event.kind => (pair(expected, event), 1, 1),
            _ => (Row::Missing { predicted: expected }, 1, 0),
        };
        rows.push_back(row);
        if of_observed == 1 {
            before = Some(*event);
        }
        (predicted, observed) = (&predicted[of_predicted..], &observed[of_observed..]);
    }
    rows.extend(predicted.iter().map(|predicted| Row::Missing { predicted }));
    rows.extend(observed.iter().map(|observed| Row::Unexpected { observed }));
    rows
}

fn pair<'a>(predicted: &'a Event, observed: &'a Event) -> Row<'a> {
    if same(predicted, observed) {
        Row::Equal { predicted, observed }
    } else {
        Row::Changed { predicted, observed }
    }
}

fn same(predicted: &Event, observed: &Event) -> bool {
    predicted.kind == observed.kind && predicted.digests.agree(&observed.digests)
}

/// Returns how many events have to be left out of each list until both go on equally: the fewest in all.
fn resume(predicted: &[&Event], observed: &[&Event]) -> (usize, usize) {
    let bound = |events: &[&Event]| events.len().min(LOOKAHEAD);
    let pairs = (0..bound(predicted)).flat_map(|i| (0..bound(observed)).map(move |j| (i, j)));
    let equal = pairs.filter(|(i, j)| same(predicted[*i], observed[*j]));
    equal.min_by_key(|(i, j)| i + j).unwrap_or((LOOKAHEAD, LOOKAHEAD))
}

/// Returns why no image can predict an event that comes after `before`, if that is so.
fn unpredictable(event: &Event, before: Option<&Event>) -> Option<&'static str> {
    let failed = |event: &Event| event.subject == Subject::Action(FAILED.into());
    if failed(event) {
        return Some(
            "firmware that writes to a disk when boot services end (edk2 2026.08) changes the memory map: the kernel is \
             refused once",
        );
    }
    let repeated = event.subject == Subject::Action(INVOKED.into()) && before.is_some_and(failed);
    repeated.then_some("the kernel calls ExitBootServices again after it was refused")
}

const INVOKED: &str = "Exit Boot Services Invocation";
const FAILED: &str = "Exit Boot Services Returned with Failure";

/// How far the comparison looks for where two logs agree again: no more is inserted between two predicted events.
const LOOKAHEAD: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_log::Digests;
    use alloc::format;
    use alloc::string::String;
    use proptest::prelude::*;

    /// Events of one register, each measured as the letter says.
    fn log(letters: &str) -> EventLog {
        let event = |letter: char| Event {
            register: Register::Pcr(4),
            kind: EventType::IPL,
            subject: Subject::Other,
            digests: Digests::of([letter as u8]),
        };
        letters.chars().map(event).collect()
    }

    fn shown(predicted: &str, observed: &str) -> String {
        let (predicted, observed) = (log(predicted), log(observed));
        let sign = |row: &Row| match row {
            Row::Equal { .. } => '=',
            Row::Changed { .. } => '~',
            Row::Missing { .. } => '-',
            Row::Unexpected { .. } => '+',
            Row::Unpredictable { .. } => '?',
        };
        compare(&predicted, &observed).iter().map(sign).collect()
    }

    #[test]
    fn one_event_that_differs_is_one_row() {
        for (predicted, observed, rows) in [
            ("abc", "abc", "==="),
            ("abc", "axc", "=~="),
            ("abc", "ac", "=-="),
            ("ac", "abc", "=+="),
            ("ab", "abc", "==+"),
            ("abc", "ab", "==-"),
            ("a", "x", "~"),
            ("abc", "", "---"),
        ] {
            assert_eq!(shown(predicted, observed), rows, "{predicted} {observed}");
        }
    }

    #[test]
    fn a_repeated_end_of_boot_services_is_told_from_anything_else() {
        let action = |text: &str| Event {
            register: Register::Pcr(5),
            kind: EventType::EFI_ACTION,
            subject: Subject::Action(text.into()),
            digests: Digests::of(text),
        };
        let succeeded = "Exit Boot Services Returned with Success";
        let predicted = [INVOKED, succeeded].map(action).into_iter().collect();
        let observed: EventLog = [INVOKED, FAILED, INVOKED, succeeded].map(action).into_iter().collect();
        let rows = compare(&predicted, &observed);
        assert!(rows.iter().all(Row::holds), "{rows:?}");
        assert_eq!(rows.len(), 4);
        let twice: EventLog = [INVOKED, INVOKED, succeeded].map(action).into_iter().collect();
        assert!(!compare(&predicted, &twice).iter().all(Row::holds));
    }

    proptest! {
        /// Every event of both logs is in one row, in its order.
        #[test]
        fn nothing_is_lost(predicted in "[a-d]{1,12}", observed in "[a-d]{0,12}") {
            let (left, right) = (log(&predicted), log(&observed));
            let rows = compare(&left, &right);
            let mut of_predicted = Vec::new();
            let mut of_observed = Vec::new();
            for row in &rows {
                match row {
                    Row::Equal { predicted, observed } | Row::Changed { predicted, observed } => {
                        of_predicted.push(*predicted);
                        of_observed.push(*observed);
                    }
                    Row::Missing { predicted } => of_predicted.push(predicted),
                    Row::Unexpected { observed } | Row::Unpredictable { observed, .. } => of_observed.push(observed),
                }
            }
            prop_assert!(of_predicted.into_iter().eq(&left.events), "{}", format!("{rows:?}"));
            prop_assert!(of_observed.into_iter().eq(&right.events));
            prop_assert_eq!(rows.iter().all(Row::holds), predicted == observed);
        }
    }
}
