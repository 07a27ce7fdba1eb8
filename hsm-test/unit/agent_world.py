"""The HSM, the directory, the CA and Intune, made up: what the arms of agent_rig do and answer."""

import base64
import datetime
import hashlib
import os
import threading
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


def b64(data):
    return base64.b64encode(data).decode()


def unb64(text):
    return base64.b64decode(text)


def now_ms():
    return int(time.time() * 1000)


class Fail(Exception):
    """Raised by a backend: the job's answer is this class of failure."""

    def __init__(self, cls, text="made up by the test", code="TEST"):
        super().__init__(text)
        self.cls = cls
        self.text = text
        self.code = code


class Silent(Exception):
    """Raised by a backend: no answer to this job."""


class World:
    """The HSM, the directory, the CA and Intune as the arms see them."""

    def __init__(self):
        self.keys = {}      # (enrolment, attempt) -> key
        self.users = 0
        self.orders = {}    # id -> dict
        self.bought = []    # SPKI hash of every order placed
        self.changes = []   # (time, order id, status)
        self.records = {}   # id -> record
        self.groups = {}    # group -> list of users, or Fail
        self.page = 2       # users a page
        self.auto_issue = True
        self.faults = {}    # kind -> list of what to do: Exception, or callable(body) -> body
        self.parcels = {}
        self.unvalidated = []
        self.counts = {}
        self.lock = threading.RLock()
        self.ca_key = ec.generate_private_key(ec.SECP256R1())
        self.ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test issuing CA")])
        self.ca = self.certify(self.ca_key.public_key(), self.ca_name, [], ca=True)
        self.notes = []
        self.oplog = []     # notes of pfx-agentd, as pfx-hsm has them in its log
        self.ready = True
        self.at_once = False   # orders are answered with their certificates
        self.unlisted = set()  # orders that the CA's list forgets
        self.foreign = 0       # orders of others in that list
        self.list_page = 2     # orders a page
        self.approval = False  # revoking waits for an approval
        self.revoked = []
        self.lingers = 0
        self.setup = []
        self.active = 1        # generation of the encryption key
        self.generations = {}  # number -> {state, ...} as the report tells them; made by turn_to
        self.sealed = []       # (enrolment, generation) of every PFX that was built
        self.epoch = 0         # of the wrapping key and MAC key in force
        self.refs = {}         # key reference -> ticket and for whom, all that were ever given out
        self.lost_keys = set() # enrolments whose user key isn't kept
        self.findings = []
        self.after_delivery = []  # purposes whose user keys go then
        self.destroyed = []       # (enrolment, attempt, why)

    # --- what the tests set up
    def user(self, name, **more):
        self.users += 1
        number = self.users
        user = {"id": "00000000-0000-4000-8000-%012d" % number, "upn": "%s@example.com" % name,
                "enabled": True, "display": name.title(), "given": name.title(),
                "surname": "Example", "mail": "%s@example.com" % name, "proxies": []}
        user.update(more)
        return {k: v for k, v in user.items() if v is not None}

    def fault(self, kind, *what):
        self.faults.setdefault(kind, []).extend(what)

    def turn_to(self, active, **states):
        """pfx-hsm has generations 1 to `active` and more, and this one is active now; None: none is.
        states: g1="compromised" and the like, for others than suspended."""
        with self.lock:
            now = now_ms()
            self.active = active
            for n in range(1, max([active or 1] + list(self.generations)) + 1):
                state = states.get("g%d" % n, "active" if n == active else "suspended")
                g = self.generations.setdefault(n, {
                    "key_name": "pfx-test" + ("-%d" % n if n > 1 else ""),
                    "provider_name": "Test Provider", "state": "", "since": now})
                if g["state"] != state:
                    g.update(state=state, since=now)
                if state == "compromised":
                    g.setdefault("compromised", now)

    # --- certificates
    def certify(self, public, subject, emails, ca=False, days=365, usage="signing"):
        now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
        builder = (x509.CertificateBuilder().subject_name(subject)
                   .issuer_name(self.ca_name).public_key(public)
                   .serial_number(x509.random_serial_number())
                   .not_valid_before(now - datetime.timedelta(minutes=5))
                   .not_valid_after(now + datetime.timedelta(days=days) -
                                    datetime.timedelta(minutes=5))
                   .add_extension(x509.BasicConstraints(ca, None), True))
        if not ca:
            sign = usage in ("signing", "dual")
            encrypt = usage in ("encryption", "dual")
            builder = (builder
                       .add_extension(x509.SubjectAlternativeName(
                           [x509.RFC822Name(e) for e in emails]), False)
                       .add_extension(x509.KeyUsage(sign, False, False, False, encrypt, False,
                                                    False, False, False), True)
                       .add_extension(x509.ExtendedKeyUsage(
                           [ExtendedKeyUsageOID.EMAIL_PROTECTION]), False))
        certificate = builder.sign(self.ca_key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.DER)

    # --- the arms' work
    def work(self, kind, body):
        with self.lock:
            self.counts[kind] = self.counts.get(kind, 0) + 1
            answer = None
            if self.faults.get(kind):
                fault = self.faults[kind].pop(0)
                if isinstance(fault, Exception):
                    raise fault
                if fault is not None:
                    answer = fault(body)
            if answer is None:
                answer = getattr(self, kind.replace(".", "_"))(body)
            return answer

    def key(self, body):
        name = (body["enrolment"], body["attempt"])
        if name not in self.keys:
            self.keys[name] = ec.generate_private_key(ec.SECP256R1())
        return self.keys[name]

    @staticmethod
    def spki(public):
        return public.public_bytes(serialization.Encoding.DER,
                                   serialization.PublicFormat.SubjectPublicKeyInfo)

    def hsm_key_csr(self, body):
        key = self.key(body)
        csr = (x509.CertificateSigningRequestBuilder()
               .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")]))
               .add_extension(x509.SubjectAlternativeName(
                   [x509.RFC822Name(a) for a in body["addresses"]]), False)
               .sign(key, hashes.SHA256()))
        return dict(self.refer(body, "token:%d.%d" % (body["enrolment"], body["attempt"])), **{
                "key_id": b64(hashlib.sha256(str(body["enrolment"]).encode()).digest()[:16]),
                "spki": b64(self.spki(key.public_key())),
                "csr": b64(csr.public_bytes(serialization.Encoding.DER))})

    def refer(self, body, name):
        whom = [body[n] for n in ("enrolment", "user", "salt", "addresses", "purpose")]
        ref, ticket = "%s@%d" % (name, self.epoch), b64(os.urandom(32))
        self.refs.setdefault((ref, ticket), whom)
        return {"key_ref": ref, "ticket": ticket, "epoch": self.epoch}

    def hsm_rewrap(self, body):
        whom = [body[n] for n in ("enrolment", "user", "salt", "addresses", "purpose")]
        if self.refs.get((body["key_ref"], body["ticket"])) != whom:
            raise Fail("integrity", "This key wasn't made for this user.", "")
        return self.refer(body, body["key_ref"].split("@")[0])

    def hsm_build_seal(self, body):
        if body["enrolment"] in self.lost_keys:
            raise Fail("integrity", "The token has no key with this CKA_ID any more.", "")
        if self.active is None:
            raise Fail("refused", "No generation of the encryption key is active.", "")
        pfx = os.urandom(200)
        self.sealed.append((body["enrolment"], self.active))
        name = "pfx-test" + ("-%d" % self.active if self.active > 1 else "")
        return {"pfx": b64(pfx), "pfx_sha256": b64(hashlib.sha256(pfx).digest()),
                "sealed": b64(os.urandom(384)), "generation": self.active, "key_name": name,
                "provider_name": "Test Provider", "padding": "oaepSha512", "tier": "transit",
                "sealed_by": "openssl"}

    def hsm_key_destroy(self, body):
        """As pfx-hsm: found is said once."""
        name = (body["enrolment"], body["attempt"])
        if body["why"] == "delivered" and body["purpose"] not in self.after_delivery:
            raise Fail("refused", "users.after_delivery keeps keys of this purpose", "policy")
        self.destroyed.append(name + (body["why"],))
        wrapped = body["key_ref"].startswith("w1.")
        return {"found": self.keys.pop(name, None) is not None and not wrapped, "wrapped": wrapped}

    def hsm_report(self, body):
        report = {"ready": self.ready, "user_keys": "token", "tier_rsa": "transit",
                  "tier_ec": "transit", "notes": self.notes}
        if self.after_delivery:
            report["after_delivery"] = self.after_delivery
        if self.epoch:
            report["epoch"] = self.epoch
        if self.active:
            report["generation"] = self.active
        if self.generations:
            report["generations"] = [dict(g, generation=n)
                                     for n, g in sorted(self.generations.items())]
        if not self.ready:
            report["why_not"] = "not initialised; run pfx-agent init"
        return report

    def hsm_log(self, body):
        """As pfx-hsm: passes over the numbers that it has, and refuses the whole job for a gap."""
        fresh = [note for note in body["notes"] if note["n"] > len(self.oplog)]
        for n, note in enumerate(fresh, len(self.oplog) + 1):
            if note["n"] != n:
                raise Fail("refused", "number %d comes where %d should" % (note["n"], n), "gap")
        self.oplog += fresh
        return {"n": len(self.oplog)}

    def up_members(self, body):
        group = self.groups.get(body["group"], Fail("refused", "the group doesn't exist", "404"))
        if isinstance(group, Exception):
            raise group
        at = int(body.get("page", "0"))
        answer = {"users": group[at:at + self.page]}
        if at + self.page < len(group):
            answer["page"] = str(at + self.page)
        return answer

    def up_records(self, body):
        records = sorted(self.records.values(), key=lambda r: r["id"])
        at = int(body.get("page", "0"))
        answer = {"records": records[at:at + self.page]}
        if at + self.page < len(records):
            answer["page"] = str(at + self.page)
        return answer

    def place(self, body):
        csr = x509.load_der_x509_csr(unb64(body["csr"]))
        spki = self.spki(csr.public_key())
        number = 5000 + len(self.orders)
        self.bought.append(hashlib.sha256(spki).hexdigest())
        self.orders[number] = {"spki": spki, "status": "pending", "token": body["token"],
                               "emails": body["addresses"], "purpose": body["purpose"],
                               "days": body.get("days", 365 * body.get("years", 0)), "body": body}
        if self.auto_issue:
            self.set_status(number, "issued")
        return number

    def set_status(self, number, status):
        with self.lock:
            self.orders[number]["status"] = status
            self.changes.append((time.time(), number, status))

    def up_order(self, body):
        number = self.place(body)
        answer = {"order_id": number, "status": "pending", "chain": []}
        if self.at_once:
            answer.update(self.up_download({"order_id": number}), status="approved",
                          certificate_id=number + 100000)
        return answer

    def up_order_settle(self, body):
        for number, order in self.orders.items():
            if order["spki"] == unb64(body["spki"]):
                return {"found": True, "order_id": number, "status": order["status"]}
        return {"found": False}

    def up_order_changes(self, body):
        since = time.time() - body["minutes"] * 60
        return {"orders": [{"order_id": n, "status": s} for t, n, s in self.changes if t >= since]}

    def up_orders(self, body):
        """Every order of the account, newest first; others' orders stand between ours."""
        rows = [{"order_id": n, "certificate_id": n + 100000, "status": self.orders[n]["status"]}
                for n in sorted(self.orders, reverse=True) if n not in self.unlisted]
        rows += [{"order_id": 100 + n, "status": "issued"} for n in range(self.foreign)]
        at = int(body.get("page", "0"))
        answer = {"orders": rows[at:at + self.list_page]}
        if at + self.list_page < len(rows):
            answer["page"] = str(at + self.list_page)
        return answer

    def up_order_resend(self, body):
        return {"order_id": body["order_id"]}

    def up_order_revoke(self, body):
        self.revoked.append(body)
        if not self.approval:
            self.set_status(body["order_id"], "revoked")
        return {"order_id": body["order_id"], "pending": self.approval}

    def up_remove(self, body):
        """lingers: how often a record is still shown after it was deleted."""
        if self.lingers > 0:
            self.lingers -= 1
            return {"gone": False}
        self.records.pop(body["record_id"], None)
        return {"gone": True}

    def up_setup_ca(self, body):
        self.setup.append(body)
        return {"findings": self.findings}

    def up_setup_entra(self, body):
        self.setup.append(body)
        return {"findings": self.findings}

    def up_order_info(self, body):
        return {"order_id": body["order_id"], "status": self.orders[body["order_id"]]["status"]}

    def up_order_validation(self, body):
        emails = self.orders[body["order_id"]]["emails"]
        waiting = [e for e in emails if e in self.unvalidated]
        return {"validated": [e for e in emails if e not in waiting], "unvalidated": waiting}

    def up_order_cancel(self, body):
        self.set_status(body["order_id"], "canceled")
        return {"order_id": body["order_id"]}

    def up_download(self, body):
        order = self.orders[body["order_id"]]
        if "leaf" not in order:
            public = serialization.load_der_public_key(order["spki"])
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, order["emails"][0])])
            order["leaf"] = self.certify(public, subject, order["emails"], days=order["days"],
                                         usage=order["purpose"])
        return {"leaf": b64(order["leaf"]), "chain": [b64(self.ca)]}

    def up_import(self, body):
        known = body["record_id"] in self.records
        self.records[body["record_id"]] = {
            "id": body["record_id"], "thumbprint": body["thumbprint"], "purpose": body["purpose"],
            "upn": body["upn"], "starts": body["starts"], "expires": body["expires"],
            "provider_name": body["provider_name"], "key_name": body["key_name"],
            "padding": body["padding"]}
        self.parcels[body["record_id"]] = (body["pfx"], body["sealed"])
        return {"record_id": body["record_id"], "updated": known}

    def up_import_settle(self, body):
        return self.up_import(body)

    def up_readback(self, body):
        record = self.records.get(body["record_id"])
        return {"present": True, "record": record} if record else {"present": False}
