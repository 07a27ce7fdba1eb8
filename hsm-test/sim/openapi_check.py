"""A small validator for the part of OpenAPI 3.0 schemas that the Graph contract uses."""

import os
import re

try:
    import yaml
except ImportError:  # python3-yaml is not installed: the check is skipped, with that reason
    yaml = None

KNOWN = {"type", "required", "properties", "additionalProperties", "enum", "pattern", "nullable",
         "allOf", "anyOf", "items", "$ref", "title", "description", "format", "example", "default",
         "minimum"}
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int,
         "number": (int, float)}


def find_contract():
    """(path, None) of graph-openapi.yaml, or (None, why it can't be used)."""
    if yaml is None:
        return None, "python3-yaml is missing"
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    shared = os.environ.get("PFX_SHARED") or os.path.join(root, "..", "shared")
    path = os.path.join(shared, "contracts", "graph-openapi.yaml")
    if not os.path.exists(path):
        return None, "the file isn't in PFX_SHARED or ../shared"
    return path, None


class Schema:
    """The OpenAPI file; check_… raise AssertionError with the place that doesn't fit."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as stream:
            self.document = yaml.safe_load(stream)

    def _resolve(self, node):
        for _ in range(20):
            if "$ref" not in node:
                return node
            target = self.document
            for part in node["$ref"].lstrip("#/").split("/"):
                target = target[part.replace("~1", "/").replace("~0", "~")]
            node = target
        raise AssertionError("references in a ring")

    def check_answer(self, path, method, status, value):
        responses = self.document["paths"][path][method]["responses"]
        assert str(status) in responses, "%s isn't an answer of %s %s" % (status, method, path)
        response = self._resolve(responses[str(status)])
        if "content" in response:
            self.check(response["content"]["application/json"]["schema"], value, "answer")

    def check_body(self, path, method, value):
        body = self.document["paths"][path][method]["requestBody"]
        self.check(body["content"]["application/json"]["schema"], value, "body")

    def check(self, schema, value, where):
        schema = self._resolve(schema)
        unknown = set(schema) - KNOWN
        assert not unknown, "keywords that this validator doesn't know: %s" % unknown
        if value is None:
            assert schema.get("nullable"), "%s is null" % where
            return
        for part in schema.get("allOf", []):
            self.check(part, value, where)
        if "anyOf" in schema:
            self._any(schema["anyOf"], value, where)
        if "type" in schema:
            right = isinstance(value, TYPES[schema["type"]])
            assert right and (schema["type"] == "boolean") == isinstance(value, bool), \
                "%s isn't of type %s" % (where, schema["type"])
        if "enum" in schema:
            assert value in schema["enum"], "%s has the value %r" % (where, value)
        if "pattern" in schema and isinstance(value, str):
            assert re.search(schema["pattern"], value), "%s doesn't fit its pattern" % where
        if isinstance(value, dict):
            self._object(schema, value, where)
        if isinstance(value, list) and "items" in schema:
            for index, item in enumerate(value):
                self.check(schema["items"], item, "%s[%d]" % (where, index))

    def _any(self, schemas, value, where):
        problems = []
        for schema in schemas:
            try:
                self.check(schema, value, where)
                return
            except AssertionError as error:
                problems.append(str(error))
        raise AssertionError("%s fits none: %s" % (where, "; ".join(problems)))

    def _object(self, schema, value, where):
        for member in schema.get("required", []):
            assert member in value, "%s lacks %s" % (where, member)
        properties = schema.get("properties", {})
        for member, inner in value.items():
            if member in properties:
                self.check(properties[member], inner, where + "." + member)
            else:
                assert schema.get("additionalProperties", True), \
                    "%s has the unknown member %s" % (where, member)
