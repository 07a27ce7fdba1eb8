"""What Intune accepts as a userPfxCertificate, and the $filter forms that it understands."""

import base64
import binascii
import datetime
import re

PURPOSES = ("unassigned", "smimeEncryption", "smimeSigning", "vpn", "wifi")
PADDINGS = ("none", "oaepSha256", "oaepSha384", "oaepSha512")  # pkcs1, oaepSha1: not any longer
REQUIRED = ("thumbprint", "intendedPurpose", "userPrincipalName", "startDateTime",
            "expirationDateTime", "providerName", "keyName", "paddingScheme",
            "encryptedPfxBlob", "encryptedPfxPassword")
OPTIONAL = ("@odata.type", "@odata.context", "@odata.etag", "id", "createdDateTime",
            "lastModifiedDateTime")
TIME = re.compile(r"^([0-9]{4,}-(0[1-9]|1[012])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3])"
                  r":[0-5][0-9]:[0-5][0-9])([.][0-9]{1,12})?(Z|[+-][0-9][0-9]:[0-9][0-9])$")
THUMBPRINT = re.compile(r"^[0-9A-Fa-f]{40}$")
CLAUSE = re.compile(r"^\s*(tolower\(\s*(\w+)\s*\)|(\w+))\s+eq\s+'((?:[^']|'')*)'\s*(?:and\s+|$)")
FILTERABLE = ("userPrincipalName", "thumbprint")
RSA_LENGTHS = (256, 384, 512)


class BadRecord(Exception):
    """A body or filter that is refused; the reason goes to the log only, as Intune is opaque."""


def _need(condition, reason):
    if not condition:
        raise BadRecord(reason)


def parse_time(text):
    """An aware datetime of an RFC 3339 time in the contract's form."""
    _need(isinstance(text, str), "a time isn't a text")
    match = TIME.match(text)
    _need(match, "a time has the wrong form")
    try:
        moment = datetime.datetime.strptime(match.group(1), "%Y-%m-%dT%H:%M:%S")
        zone = match.group(6)
        if zone != "Z":
            minutes = int(zone[1:3]) * 60 + int(zone[4:6])
            _need(int(zone[4:6]) < 60 and minutes <= 14 * 60, "a time has a wrong zone")
            moment -= datetime.timedelta(minutes=minutes if zone[0] == "+" else -minutes)
        return moment.replace(tzinfo=datetime.timezone.utc)
    except (ValueError, OverflowError) as error:
        raise BadRecord("a time isn't a date") from error


def _base64(text, member):
    _need(isinstance(text, str) and text, member + " is empty")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRecord(member + " isn't standard base64") from error


def _is_pfx(raw):
    """Whether raw is one DER SEQUENCE from end to end that starts as a PFX does: version 3."""
    if len(raw) < 8 or raw[0] != 0x30:
        return False
    if raw[1] < 0x80:
        start, length = 2, raw[1]
    else:
        count = raw[1] & 0x7F
        if not 1 <= count <= 4:
            return False
        start, length = 2 + count, int.from_bytes(raw[2:2 + count], "big")
    return start + length == len(raw) and raw[start:start + 4] == b"\x02\x01\x03\x30"


def check_record(body, partial=False):
    """Check a POST's or PATCH's body; BadRecord says what is wrong."""
    _need(isinstance(body, dict), "the body isn't an object")
    unknown = set(body) - set(REQUIRED) - set(OPTIONAL)
    _need(not unknown, "unknown members: %s" % ", ".join(sorted(unknown)))
    if not partial:
        missing = [m for m in REQUIRED if body.get(m) is None]
        _need(not missing, "missing members: %s" % ", ".join(missing))
    for member, value in body.items():
        _need(isinstance(value, str), "%s isn't a text" % member)
    _need(body.get("@odata.type", "#microsoft.graph.userPFXCertificate")
          == "#microsoft.graph.userPFXCertificate", "wrong @odata.type")
    if "thumbprint" in body:
        _need(THUMBPRINT.match(body["thumbprint"]), "the thumbprint isn't SHA-1 in hex")
    if "intendedPurpose" in body:
        _need(body["intendedPurpose"] in PURPOSES, "unknown intendedPurpose")
    if "paddingScheme" in body:
        _need(body["paddingScheme"] in PADDINGS, "unknown or retired paddingScheme")
    for member in ("userPrincipalName", "providerName", "keyName"):
        if member in body:
            _need(body[member].strip(), "%s is empty" % member)
    for member in ("createdDateTime", "lastModifiedDateTime"):
        if member in body:
            parse_time(body[member])
    if "startDateTime" in body and "expirationDateTime" in body:
        _need(parse_time(body["startDateTime"]) < parse_time(body["expirationDateTime"]),
              "the dates are reversed")
    if "encryptedPfxBlob" in body:
        raw = _base64(body["encryptedPfxBlob"], "encryptedPfxBlob")
        _need(_is_pfx(raw), "the blob isn't a PFX")
    if "encryptedPfxPassword" in body:
        _need(len(_base64(body["encryptedPfxPassword"], "encryptedPfxPassword")) in RSA_LENGTHS,
              "the sealed password hasn't an RSA key's length")


def parse_filter(text):
    """A test on records for "tolower(userPrincipalName) eq '…' and tolower(thumbprint) eq '…'"."""
    clauses = []
    for _ in range(4):
        match = CLAUSE.match(text)
        _need(match, "the filter can't be read")
        member = match.group(2) or match.group(3)
        _need(member in FILTERABLE, "the filter names %s" % member)
        clauses.append((member, bool(match.group(2)), match.group(4).replace("''", "'")))
        rest = text[match.end():]
        if not rest:
            _need(match.group(0).rstrip().endswith("'"), "the filter ends in and")
            break
        text = rest
    else:
        raise BadRecord("the filter is too long")

    def matches(record):
        for member, lower, wanted in clauses:
            value = record[member].lower() if lower else record[member]
            if value != wanted:
                return False
        return True
    return matches
