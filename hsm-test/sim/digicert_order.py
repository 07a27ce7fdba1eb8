"""One order of DigiCert's simulator: what it holds, and how it is found."""

import datetime

import pki

CERTIFICATE_OFFSET = 500000  # of a certificate's number to its order's
WAITING = ("pending", "processing", "needs_approval", "needs_csr", "waiting_pickup",
           "reissue_pending")

# Entries of other people's orders that no client can make sense of.
MALFORMED = (None, "text", 7, {}, {"order_id": "abc", "id": "abc", "status": "issued"},
             {"order_id": 99, "id": 99}, {"order_id": -4, "id": -4, "status": "issued"},
             {"order_id": 98, "id": 98, "status": {"name": "issued"}, "certificate": "none",
              "product": 7})


def rfc3339(seconds):
    moment = datetime.datetime.fromtimestamp(int(seconds), datetime.timezone.utc)
    return moment.isoformat()


class Order:
    """One order; held orders wait for a person and don't issue by themselves."""

    def __init__(self, number, spec, body, now):
        self.id = number
        self.certificate_id = number + CERTIFICATE_OFFSET
        self.spec = spec
        self.body = body
        self.created = now
        self.status = "pending"
        self.held = False
        self.changed = None
        self.issued = None
        self.period = None  # of the certificate, from when it is issued on
        self.serial = None
        self._leaf = None
        self.note = None
        self.requests = [{"id": number + 900000, "date": rfc3339(now), "type": "new_request",
                          "status": "pending", "comments": body.get("comments", "")}]
        self.lower = [e.lower() for e in spec["emails"]]

    def emails(self):
        return self.lower

    def leaf(self, authority):
        """The certificate. It is signed when somebody looks at it: thousands of orders can become
        issued within one request."""
        if self._leaf is None and self.period is not None:
            self._leaf = pki.issue_leaf(authority, self.spec["key"], self.spec, *self.period,
                                        serial=self.serial)
        return self._leaf

    def matches(self, filters):
        """Does it pass these (name, value) filters of the order list?"""
        for name, wanted in filters:
            wanted = wanted.lower()
            if name == "email":
                good = wanted in self.emails()
            elif name == "product_name_id":
                good = wanted == self.spec["product"]
            elif name == "id":
                good = wanted == str(self.id)
            elif name == "status":
                good = wanted == self.status
            elif name == "common_name":
                good = wanted == self.spec["common_name"].lower()
            elif name == "date_created":
                good = wanted == rfc3339(self.created)[:10]
            elif name == "serial_number":
                good = self.serial is not None and wanted == "%032x" % self.serial
            elif name == "search":
                good = wanted in " ".join(self.emails() + [str(self.id),
                                                            self.spec["common_name"].lower()])
            else:
                good = True
            if not good:
                return False
        return True
