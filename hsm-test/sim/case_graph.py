"""Graph's simulator: paging, rights, the strictness of userPfxCertificates, throttling."""

import json
import os
import re
import urllib.parse
import uuid

from openapi_check import Schema, find_contract
from simclient import GROUP, OBJECT, UPN, SimCase

SELECT = ("id,accountEnabled,displayName,givenName,surname,mail,userPrincipalName,"
          "proxyAddresses,department,employeeHireDate")
MEMBERS = "/v1.0/groups/%s/transitiveMembers/microsoft.graph.user" % GROUP
VALID = "nora.valid@contoso.example.com"


class GraphCase(SimCase):

    def follow(self, first, limit=50):
        """All items of a paged collection, and the number of pages."""
        items, pages, path = [], 0, first
        while path and pages < limit:
            answer = self.graph("GET", path)
            self.assertEqual(200, answer.status, answer.body)
            items += answer.json["value"]
            pages += 1
            link = answer.json.get("@odata.nextLink")
            if link:
                self.assertTrue(link.startswith(self.urls["graph"] + "/"))
            path = link[len(self.urls["graph"]):] if link else None
        return items, pages

    def test_bearer_and_ids(self):
        mine = str(uuid.uuid4())
        for header in (None, "Bearer x", "Basic x"):
            answer = self.graph("GET", MEMBERS, headers={"Authorization": header,
                                                         "client-request-id": mine})
            self.assertEqual((401, "InvalidAuthenticationToken"), (answer.status, answer.code()))
            self.assertEqual(mine, answer.headers["client-request-id"])
            self.assertEqual(answer.headers["request-id"],
                             answer.json["error"]["innerError"]["request-id"])

    def test_members(self):
        path = MEMBERS + "?$select=%s&$top=3" % SELECT
        users, pages = self.follow(path)
        self.assertEqual((8, 3), (len(users), pages))
        self.assertEqual(set(SELECT.split(",")), set(users[0]))
        future = [u for u in users if u["surname"] == "Morgenroth"][0]
        self.assertTrue(re.match(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", future["employeeHireDate"]))
        everything, _ = self.follow(MEMBERS.rsplit("/", 1)[0])
        self.assertEqual(11, len(everything))
        self.setting(members_page_size=2)
        self.assertEqual(4, self.follow(MEMBERS + "?$top=999")[1])
        self.setting(next_link_authority="127.0.0.1:9443")
        link = self.graph("GET", MEMBERS).json["@odata.nextLink"]
        self.assertTrue(link.startswith("https://127.0.0.1:9443/v1.0/groups/"))
        self.setting(next_link_authority="")
        plain, _ = self.follow(MEMBERS)
        self.assertNotIn("proxyAddresses", plain[0])

    def test_members_refusals(self):
        self.assertEqual(404, self.graph("GET", MEMBERS.replace(GROUP, str(uuid.uuid4()))).status)
        for query in ("$top=1000", "$top=0", "$top=x", "$select=shoeSize", "$expand=manager",
                      "$skiptoken=%21", "$top=1&$top=2", "top=5"):
            self.assertEqual(400, self.graph("GET", MEMBERS + "?" + query).status, query)
        self.assertEqual(405, self.graph("POST", MEMBERS, {}).status)
        self.assertEqual(400, self.graph("GET", "/v1.0/deviceManagement/"
                                                "userPfxCertificates").status)

    def test_roles(self):
        users = self.graph("GET", MEMBERS + "?$select=id,mail", reader=True).json["value"]
        self.assertTrue(all(u["mail"] is None and u["id"] for u in users))
        self.assertEqual(403, self.graph("GET", "/v1.0/users/" + UPN, reader=True).status)
        self.assertEqual(200, self.graph("GET", self.RECORDS, reader=True).status)
        answer = self.graph("POST", self.RECORDS, self.record(), reader=True)
        self.assertEqual((403, "Authorization_RequestDenied"), (answer.status, answer.code()))

    def test_record_life(self):
        sent = self.record()
        answer = self.graph("POST", self.RECORDS, sent)
        self.assertEqual(201, answer.status, answer.body)
        number = "%s-%s" % (OBJECT, "ab" * 20)
        self.assertEqual(number, answer.json["id"])
        read = self.graph("GET", self.RECORDS + "/" + number).json
        self.assertEqual(("AA==", ""), (read["encryptedPfxBlob"], read["encryptedPfxPassword"]))
        self.assertRegex(read["createdDateTime"], r"\.\d{7}Z$")
        with open(os.path.join(self.dir, "graph", number + ".json"), encoding="utf-8") as stream:
            self.assertEqual(sent, json.load(stream))
        again = self.graph("POST", self.RECORDS, sent)
        self.assertEqual((409, "Conflict"), (again.status, again.code()))
        self.setting(existing_record=400)
        self.assertEqual(400, self.graph("POST", self.RECORDS, sent).status)
        changed = self.record(keyName="second")
        answer = self.graph("PATCH", self.RECORDS + "/" + number, changed)
        self.assertEqual((200, "second"), (answer.status, answer.json["keyName"]))
        self.setting(patch_status=204)
        self.assertEqual(204, self.graph("PATCH", self.RECORDS + "/" + number, changed).status)
        self.assertEqual(400, self.graph("PATCH", self.RECORDS + "/" + number,
                                         {"keyName": "third"}).status)
        self.setting(partial_patch=True, delete_lingers=True)
        self.assertEqual(204, self.graph("PATCH", self.RECORDS + "/" + number,
                                         {"keyName": "third"}).status)
        for _ in range(2):
            self.assertEqual(204, self.graph("DELETE", self.RECORDS + "/" + number).status)
        self.setting(delete_lingers=False)
        self.assertEqual(204, self.graph("DELETE", self.RECORDS + "/" + number).status)
        for method in ("GET", "DELETE"):
            self.assertEqual(404, self.graph(method, self.RECORDS + "/" + number).status)
        self.assertEqual(404, self.graph("PATCH", self.RECORDS + "/" + number, sent).status)
        state = self.state()["graph"]
        self.assertEqual((3, 1, 3, 2), (state["posts"], state["posts_accepted"],
                                        state["patches_accepted"], state["records"]))

    def test_record_refusals(self):
        rows = [{m: ...} for m in self.record()]
        rows += [
            {"@odata.context2": "x"}, {"IntendedPurpose": "smimeSigning"}, {"id": "x-y"},
            {"intendedPurpose": "SmimeSigning"}, {"intendedPurpose": "smime"},
            {"paddingScheme": "OaepSha512"}, {"paddingScheme": "pkcs1"},
            {"paddingScheme": "oaepSha1"}, {"thumbprint": "ab" * 32}, {"thumbprint": "zz" * 20},
            {"startDateTime": "2026-01-02 03:04:05"}, {"startDateTime": "2026-02-30T03:04:05Z"},
            {"expirationDateTime": "2025-01-02T03:04:05Z"}, {"startDateTime": 1767323045},
            {"keyName": None}, {"providerName": ""}, {"encryptedPfxBlob": "AA=="},
            {"encryptedPfxBlob": "MIIK-_"}, {"encryptedPfxPassword": ""},
            {"encryptedPfxPassword": "AAAA"}, {"userPrincipalName": "nobody@contoso.example.com"},
            {"createdDateTime": ""}]
        for change in rows:
            with self.subTest(change=change):
                body = self.record(**change)
                answer = self.graph("POST", self.RECORDS, body)
                self.assertEqual((400, "BadRequest"), (answer.status, answer.code()))
                self.assertIn("Activity ID", answer.json["error"]["message"])
        good = json.dumps(self.record())
        doubled = good[:-1] + ',"keyName":"x"}'
        self.assertEqual(400, self.graph("POST", self.RECORDS, doubled).status)
        self.assertEqual(415, self.graph("POST", self.RECORDS, good,
                                         {"Content-Type": "text/plain"}).status)
        state = self.state()["graph"]
        self.assertEqual((0, 2), (state["posts_accepted"], state["records"]))
        self.assertEqual("missing members: thumbprint", state["refused"][0]["reason"])

    def test_patch_of_another_record(self):
        self.graph("POST", self.RECORDS, self.record())
        path = self.RECORDS + "/%s-%s" % (OBJECT, "ab" * 20)
        for change in ({"thumbprint": "cd" * 20}, {"userPrincipalName": VALID}, {"id": "x"}):
            self.assertEqual(400, self.graph("PATCH", path, self.record(**change)).status)

    def test_list_and_filter(self):
        self.graph("POST", self.RECORDS, self.record())
        self.setting(records_page_size=1)
        self.assertEqual(3, self.follow(self.RECORDS)[1])

        def found(text):
            path = self.RECORDS + "?$filter=" + urllib.parse.quote(text)
            return self.graph("GET", path)
        self.setting(records_page_size=100)
        one = found("tolower(userPrincipalName) eq '%s'" % VALID)
        self.assertEqual(2, len(one.json["value"]))
        both = "tolower(userPrincipalName) eq '%s' and tolower(thumbprint) eq '%s'"
        self.assertEqual(1, len(found(both % (UPN, "ab" * 20)).json["value"]))
        self.assertEqual(0, len(found(both % (UPN, "AB" * 20)).json["value"]))
        self.assertEqual(0, len(found(both % ("o''brien@x", "00")).json["value"]))
        for wrong in ("userPrincipalName eq 'o'brien'", both % (UPN, "x") + " and ",
                      "startswith(id,'a')", "keyName eq 'x'", "x"):
            self.assertEqual(400, found(wrong).status, wrong)

    def test_throttling(self):
        self.setting(graph_write_limits=[[2, 20]])
        forms = {"seconds": ("Retry-After", r"^\d+$"), "fraction": ("Retry-After", r"^\d+\.\d+$"),
                 "ms": ("x-ms-retry-after-ms", r"^\d+$")}
        path = self.RECORDS + "/x"
        for _ in range(2):
            self.assertEqual(404, self.graph("DELETE", path).status)
        for form, (header, pattern) in forms.items():
            self.setting(retry_after=form)
            answer = self.graph("DELETE", path)
            self.assertEqual(429, answer.status)
            self.assertRegex(answer.headers[header], pattern)
        self.setting(retry_after="absent")
        answer = self.graph("DELETE", path)
        self.assertEqual([None, None], [answer.headers["Retry-After"],
                                        answer.headers["x-ms-retry-after-ms"]])
        self.assertEqual(200, self.graph("GET", self.RECORDS).status)

    def test_any_limit(self):
        self.setting(graph_any_limits=[[3, 20]])
        self.assertEqual([200] * 3 + [429],
                         [self.graph("GET", self.RECORDS).status for _ in range(4)])

    def test_member_changes(self):
        user = {"id": str(uuid.uuid4()), "accountEnabled": True, "displayName": "New",
                "mail": "new@example.com", "userPrincipalName": "new@example.com",
                "employeeHireDate": "+2d"}
        self.control("POST", "/graph/member", {"group": GROUP, "add": user})
        self.control("POST", "/graph/member",
                     {"change": {"id": user["id"], "userPrincipalName": "newer@example.com"}})
        users, _ = self.follow(MEMBERS)
        self.assertEqual("newer@example.com", users[-1]["userPrincipalName"])
        answer = self.graph("POST", self.RECORDS,
                            self.record(userPrincipalName="newer@example.com"))
        self.assertEqual(201, answer.status)
        self.control("POST", "/graph/member", {"group": GROUP, "remove": user["id"]})
        self.assertEqual(8, len(self.follow(MEMBERS)[0]))


class ContractCase(SimCase):
    """The simulator's answers, and the bodies it takes, against the OpenAPI file."""

    def setUp(self):
        path, why = find_contract()
        if path is None:
            self.skipTest("Graph answers against graph-openapi.yaml: " + why)
        super().setUp()
        self.schema = Schema(path)

    def check(self, answer, path, method):
        self.schema.check_answer(path, method, answer.status, answer.json)
        return answer

    def test_records(self):
        one = self.RECORDS + "/{userPFXCertificate-id}"
        body = self.record()
        self.schema.check_body(self.RECORDS, "post", body)
        made = self.check(self.graph("POST", self.RECORDS, body), self.RECORDS, "post")
        path = self.RECORDS + "/" + made.json["id"]
        self.check(self.graph("GET", path), one, "get")
        self.check(self.graph("GET", self.RECORDS), self.RECORDS, "get")
        self.schema.check_body(one, "patch", body)
        self.check(self.graph("PATCH", path, body), one, "patch")
        self.check(self.graph("POST", self.RECORDS, {}), self.RECORDS, "post")
        self.check(self.graph("GET", self.RECORDS + "/x"), one, "get")
        self.check(self.graph("GET", self.RECORDS, headers={"Authorization": None}), self.RECORDS,
                   "get")

    def test_members(self):
        path = MEMBERS.replace(GROUP, "{group-id}")
        self.check(self.graph("GET", MEMBERS + "?$select=" + SELECT), path, "get")
        self.check(self.graph("GET", MEMBERS.replace(GROUP, "x")), path, "get")

    def test_what_the_contract_refuses_is_refused(self):
        for change in ({"keyName": ...}, {"paddingScheme": "OaepSha512"}, {"x": "y"},
                       {"startDateTime": "yesterday"}):
            body = self.record(**change)
            with self.assertRaises(AssertionError):
                self.schema.check_body(self.RECORDS, "post", body)
            self.assertEqual(400, self.graph("POST", self.RECORDS, body).status)
