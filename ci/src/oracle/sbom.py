"""What validators say that are libraries: sbom.py bsi|cyclonedx|schema|shapes DOCUMENT [RESOURCE…]."""

import json
import sys


def cyclonedx(path):
    """The strict schema and the object model of the makers of CycloneDX."""
    from cyclonedx.model.bom import Bom
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = open(path, encoding="utf-8").read()
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if error is not None:
        sys.exit(str(error))
    bom = Bom.from_json(json.loads(text))
    if not bom.validate():
        sys.exit("a dependency names no component")
    return f"{len(bom.components)} components"


def schema(path, schema):
    """The schema of SPDX 3, by a validator that is quick enough for thousands of files."""
    import jsonschema_rs

    validator = jsonschema_rs.Draft202012Validator(json.load(open(schema, encoding="utf-8")))
    document = json.load(open(path, encoding="utf-8"))
    for element in document["@graph"] if not validator.is_valid(document) else []:
        if not validator.is_valid({**document, "@graph": [element]}):
            sys.exit("the schema refuses " + json.dumps(element)[:1000])
    if not validator.is_valid(document):
        sys.exit("the schema refuses the document")
    return f"{len(document['@graph'])} elements"


def shapes(path, context, model):
    """The SHACL shapes of SPDX 3, without the files of images: a minute for each ten thousand elements is too long."""
    import pyshacl
    import rdflib

    document = json.load(open(path, encoding="utf-8"))
    document["@context"] = json.load(open(context, encoding="utf-8"))["@context"]
    document["@graph"] = packages(document["@graph"])
    graph, shapes = rdflib.Graph(), rdflib.Graph()
    graph.parse(data=json.dumps(document), format="json-ld")
    shapes.parse(model)
    conforms, _, report = pyshacl.validate(graph, shacl_graph=shapes, ont_graph=shapes, allow_warnings=True)
    if not conforms:
        sys.exit(report[:4000])
    return f"{len(graph)} triples"


def packages(elements):
    files = {element["spdxId"] for element in elements if "#path-" in element.get("spdxId", "")}
    rest = [element for element in elements if element.get("spdxId") not in files]
    for relation in (element for element in rest if "to" in element):
        relation["to"] = [to for to in relation["to"] if to not in files]
    return [element for element in rest if element.get("to") != []]


def bsi(path):
    """What BSI asks for, but of sources that others were linked with: Static-Built-Using gives a name and a version only."""
    from ntia_conformance_checker.bsi_checker import BSIChecker

    checker = BSIChecker(path, sbom_spec="spdx3")
    sources, faults = set(), []
    for element, has in ((row[0], row[1]) for row in checker.table_elements):
        if not has and "(" not in element:
            faults.append(element)
    for name, components in checker.all_components_without_info:
        faults += [f"{name} of {id}" for _, id in components if "#source-" not in id]
        sources |= {id for _, id in components if "#source-" in id}
    known = {"Component Creators", "Distribution Filenames", "Distribution Licenses"} if sources else set()
    faults = [fault for fault in faults if fault not in known]
    if faults:
        sys.exit("; ".join(faults[:20]))
    return f"all but creators, files and licences of {len(sources)} sources that packages were linked with"


print({"bsi": bsi, "cyclonedx": cyclonedx, "schema": schema, "shapes": shapes}[sys.argv[1]](*sys.argv[2:]))
