"""What DigiCert accepts in the body of an order: every rule of the contract, and its refusals."""

import base64
import hashlib
import re

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

MAX_DAYS = 824
RSA_SIZES = (2048, 3072, 4096)
CURVES = ("secp256r1", "secp384r1")
PRIMARY = ("signing", "key_management", "dual_use")
ADDITIONAL = ("non_repudiation", "client_auth")
HEADER = "-----BEGIN CERTIFICATE REQUEST-----"
FOOTER = "-----END CERTIFICATE REQUEST-----"

# A dot-atom local part and a host name of at least two labels: what a public CA signs.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
EMAIL = re.compile(r"^(?=.{3,254}$)(?=[^@]{1,64}@)%s(?:\.%s)*@%s(?:\.%s)+$"
                   % (_ATOM, _ATOM, _LABEL, _LABEL))

NEEDS, MAY, NEVER = "needs", "may", "never"


class Product:
    """Which members a product needs, may have, or must not have."""

    def __init__(self, kind, title, organization, individual, indicator, common_name=NEVER,
                 indicators=(), profiles=("strict", "multipurpose"), legacy=False,
                 client_auth=False):
        self.kind = kind
        self.title = title
        self.organization = organization
        self.individual = individual
        self.indicator = indicator
        self.common_name = common_name
        self.indicators = indicators
        self.profiles = profiles
        self.legacy = legacy
        self.client_auth = client_auth  # in its certificates, whether asked for or not


_SPONSOR_CN = ("email_address", "given_name_surname", "pseudonym")
# As DigiCert's page for these has it since July 2025: no address as common name.
_LEGACY = dict(organization=NEEDS, individual=NEEDS, indicator=NEEDS, common_name=MAY,
               indicators=("given_name_surname", "pseudonym"), profiles=("multipurpose",),
               legacy=True)

PRODUCTS = {
    "secure_email_mailbox": Product("mailbox", "Secure Email for Individual (Mailbox)",
                                    NEVER, NEVER, MAY),
    "secure_email_sponsor": Product("sponsor", "Secure Email for Employee",
                                    NEEDS, NEEDS, NEEDS, indicators=_SPONSOR_CN),
    "secure_email_organization": Product("organization", "Secure Email for Organization",
                                         NEEDS, NEVER, NEEDS,
                                         indicators=("email_address", "organization_name")),
    "client_premium": Product("sponsor", "Premium", **_LEGACY),
    "client_digital_signature_plus": Product("sponsor", "Digital Signature Plus", **_LEGACY),
    "client_email_security_plus": Product("sponsor", "Email Security Plus", **_LEGACY),
    "client_authentication_plus": Product("organization", "Authentication Plus",
                                          NEEDS, NEVER, NEVER, common_name=NEEDS, legacy=True,
                                          client_auth=True),
    "class1_smime": Product("mailbox", "Class 1 S/MIME", NEVER, NEVER, NEVER,
                            profiles=("multipurpose",), legacy=True),
}

TOP = {"certificate", "organization", "order_validity", "skip_approval", "payment_method",
       "comments", "custom_fields", "renewal_of_order_id", "auto_renew"}
CERTIFICATE = {"emails", "csr", "signature_hash", "profile_type", "common_name_indicator",
               "individual", "usage_designation", "common_name"}
INDICATORS = ("email_address", "given_name_surname", "pseudonym", "organization_name")


class Refusal(Exception):
    """A request that the service refuses."""

    def __init__(self, code, message, status=400):
        super().__init__(message)
        self.status = status
        self.code = code


def need(condition, code, message):
    if not condition:
        raise Refusal(code, message)


def _object(value, code, allowed):
    need(isinstance(value, dict), "invalid_" + code, "%s must be an object" % code)
    unknown = sorted(set(value) - allowed)
    need(not unknown, "invalid_" + code, "%s has unknown members: %s" % (code, ", ".join(unknown)))
    return value


def is_id(value):
    return type(value) is int and 0 < value < 1 << 53


def check_csr(text):
    """The public key of the CSR and the SHA-256 of its SPKI, or a Refusal."""
    need(isinstance(text, str) and text, "missing_csr", "The CSR is required with the order")
    need("\n" not in text and "\r" not in text, "invalid_csr", "The CSR must be on one line")
    need(text.startswith(HEADER) and text.endswith(FOOTER) and len(text) < 16384,
         "invalid_csr", "The CSR needs its header and footer")
    try:
        raw = base64.b64decode(text[len(HEADER):-len(FOOTER)], validate=True)
        csr = x509.load_der_x509_csr(raw)
        good = csr.is_signature_valid
        key = csr.public_key()
    except Exception as error:  # the parser's refusals have many types
        raise Refusal("invalid_csr", "The CSR can't be read") from error
    need(good, "invalid_csr", "The CSR's signature doesn't verify")
    if isinstance(key, rsa.RSAPublicKey):
        need(key.key_size in RSA_SIZES, "invalid_csr", "RSA keys have 2048, 3072 or 4096 bits")
        need(key.public_numbers().e >= 65537, "invalid_csr", "RSA exponent too small")
    elif isinstance(key, ec.EllipticCurvePublicKey):
        need(key.curve.name in CURVES, "invalid_csr", "EC keys are on P-256 or P-384")
    else:
        raise Refusal("invalid_csr", "Key type isn't supported")
    return key, spki_hash(key)


def spki_hash(key):
    spki = key.public_bytes(serialization.Encoding.DER,
                            serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def _check_emails(emails):
    need(isinstance(emails, list) and emails, "missing_email", "At least one email is required")
    for email in emails:
        need(isinstance(email, str) and EMAIL.match(email), "invalid_email",
             "An email address isn't valid")
    lower = [e.lower() for e in emails]
    need(len(set(lower)) == len(lower), "invalid_email", "An email address is doubled")


def _check_usage(usage, profile):
    _object(usage, "usage_designation", {"primary_usage", "additional_usages"})
    primary = usage.get("primary_usage")
    need(primary in PRIMARY, "invalid_usage_designation", "primary_usage isn't known")
    additional = usage.get("additional_usages", [])
    need(isinstance(additional, list) and all(a in ADDITIONAL for a in additional)
         and len(set(additional)) == len(additional),
         "invalid_usage_designation", "additional_usages aren't known")
    # The CA/Browser Forum's S/MIME requirements, 7.1.2.3: strict certificates have the mail
    # protection usage only, and a key for encryption alone doesn't sign.
    need("client_auth" not in additional or profile != "strict",
         "invalid_usage_designation", "client_auth needs the multipurpose profile")
    need("non_repudiation" not in additional or primary != "key_management",
         "invalid_usage_designation", "non_repudiation needs a signing usage")
    return primary, additional


def _presence(rule, value, member):
    if rule == NEEDS:
        need(value is not None, "missing_" + member, "%s is required for this product" % member)
    elif rule == NEVER:
        need(value is None, "invalid_" + member, "%s isn't allowed for this product" % member)


def _check_individual(individual, indicator):
    """First and last name, or a pseudonym; the indicator says which (the address takes either)."""
    _object(individual, "individual", {"first_name", "last_name", "pseudonym"})
    for member, text in individual.items():
        need(isinstance(text, str) and text.strip() and len(text) <= 64, "invalid_individual",
             "%s must be a text of at most 64 characters" % member)
    names = "first_name" in individual and "last_name" in individual
    pseudonym = "pseudonym" in individual
    need(names or indicator != "given_name_surname", "invalid_individual",
         "first_name and last_name are required")
    need(pseudonym or indicator != "pseudonym", "invalid_individual", "pseudonym is required")
    need(names or pseudonym, "invalid_individual", "names or a pseudonym are required")
    # S/MIME Baseline Requirements, 7.1.4.2.2: a subject has one or the other.
    need(not (pseudonym and ("first_name" in individual or "last_name" in individual)),
         "invalid_individual", "names and a pseudonym exclude each other")


def _check_validity(validity):
    need(validity is not None, "missing_order_validity", "order_validity is required")
    _object(validity, "order_validity", {"years", "days"})
    need(len(validity) == 1, "invalid_order_validity", "order_validity is years or days")
    unit, amount = next(iter(validity.items()))
    need(type(amount) is int and amount > 0, "invalid_order_validity", "%s must be > 0" % unit)
    days = amount * 365 if unit == "years" else amount
    need(days <= MAX_DAYS, "invalid_order_validity", "Validity is at most %d days" % MAX_DAYS)
    return days


def _common_name(product, certificate, organization):
    indicator = certificate.get("common_name_indicator")
    individual = certificate.get("individual") or {}
    if product.common_name == NEEDS:
        return certificate["common_name"]
    if product.kind == "mailbox" or indicator == "email_address":
        return certificate["emails"][0]
    if indicator == "given_name_surname":
        return "%s %s" % (individual["first_name"], individual["last_name"])
    if indicator == "pseudonym":
        return individual["pseudonym"]
    return organization["name"]


def _check_fields(fields, known):
    need(isinstance(fields, list), "invalid_custom_fields", "custom_fields is a list")
    for field in fields:
        need(isinstance(field, dict) and set(field) == {"metadata_id", "value"}
             and is_id(field["metadata_id"]) and isinstance(field["value"], str),
             "invalid_custom_fields", "a custom field is {metadata_id, value}")
    given = [f["metadata_id"] for f in fields]
    need(len(set(given)) == len(given), "invalid_custom_fields", "a custom field is doubled")
    if not known:
        return
    active = {f["id"]: f for f in known if f.get("is_active", True)}
    need(set(given) <= set(active), "invalid_custom_fields", "a custom field isn't known")
    missing = [f["id"] for f in active.values() if f.get("is_required")]
    need(set(missing) <= set(given), "missing_custom_fields", "a required custom field is missing")


def _check_rest(body, order_exists, known_fields):
    need(type(body.get("skip_approval", False)) is bool, "invalid_skip_approval",
         "skip_approval is true or false")
    need(body.get("payment_method", "profile") in ("profile", "balance"),
         "invalid_payment_method", "payment_method is profile or balance")
    comments = body.get("comments", "")
    need(isinstance(comments, str) and len(comments) <= 2000, "invalid_comments",
         "comments are a text of at most 2000 characters")
    _check_fields(body.get("custom_fields", []), known_fields)
    renewed = body.get("renewal_of_order_id")
    if renewed is not None:
        need(is_id(renewed) and order_exists(renewed), "invalid_renewal_of_order_id",
             "The renewed order doesn't exist")
    need(body.get("auto_renew", 0) in (0, 1), "invalid_auto_renew", "auto_renew is 0 or 1")


def check_order(name, body, organizations, allowed_products, order_exists, known_fields=()):
    """What the order asks for, as the spec that pki.issue_leaf takes, or a Refusal."""
    product = PRODUCTS.get(name)
    if product is None or (allowed_products and name not in allowed_products):
        raise Refusal("not_found|product", "The product isn't available to this account", 404)
    need(isinstance(body, dict), "bad_request_format", "The body must be a JSON object")
    _object(body, "order", TOP)
    certificate = body.get("certificate")
    need(certificate is not None, "missing_certificate", "certificate is required")
    _object(certificate, "certificate", CERTIFICATE)
    _check_emails(certificate.get("emails"))
    key, spki = check_csr(certificate.get("csr"))
    need(certificate.get("signature_hash") in ("sha256", "sha384", "sha512"),
         "invalid_signature_hash", "signature_hash is sha256, sha384 or sha512")

    profile = certificate.get("profile_type", "multipurpose")
    need(profile in product.profiles, "invalid_profile_type",
         "profile_type is %s" % " or ".join(product.profiles))
    usage = certificate.get("usage_designation", {"primary_usage": "dual_use"})
    primary, additional = _check_usage(usage, profile)

    organization = _check_organization(product, body.get("organization"), organizations)
    _presence(product.individual, certificate.get("individual"), "individual")
    _check_indicator(product, certificate.get("common_name_indicator"))
    if certificate.get("individual") is not None:
        _check_individual(certificate["individual"], certificate.get("common_name_indicator"))
    _presence(product.common_name, certificate.get("common_name"), "common_name")
    if certificate.get("common_name") is not None:
        need(isinstance(certificate["common_name"], str) and certificate["common_name"].strip(),
             "invalid_common_name", "common_name must be a text")
    days = _check_validity(body.get("order_validity"))
    _check_rest(body, order_exists, known_fields)
    return {
        "kind": product.kind, "product": name, "title": product.title, "key": key, "spki": spki,
        "emails": list(certificate["emails"]), "csr": certificate["csr"], "days": days,
        "signature_hash": certificate["signature_hash"], "profile": profile,
        "primary_usage": primary, "additional_usages": list(additional),
        "organization": organization, "individual": certificate.get("individual"),
        "common_name": _common_name(product, certificate, organization),
        "client_auth": product.client_auth,
    }


def _check_organization(product, given, organizations):
    _presence(product.organization, given, "organization")
    if given is None:
        return None
    _object(given, "organization", {"id"})
    need(is_id(given.get("id")) and given["id"] in organizations, "invalid_organization",
         "The organization isn't known in this account")
    return organizations[given["id"]]


def _check_indicator(product, indicator):
    _presence(product.indicator, indicator, "common_name_indicator")
    if indicator is None:
        return
    # For mailbox the member is ignored, whatever known value it has.
    allowed = product.indicators or INDICATORS
    need(indicator in allowed, "invalid_common_name_indicator",
         "common_name_indicator is %s" % ", ".join(allowed))
