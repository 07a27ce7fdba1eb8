"""Tenants for the tests: a group, its members, and what the CA does with their orders."""

TENANT = "0f0e0d0c-1111-4222-8333-444455556666"
CLIENT = "c11e47a0-0001-4002-8003-000400050006"
GROUP = "9d0a6c1e-0001-4a00-9000-00000000a001"
GROUP2 = "9d0a6c1e-0002-4a00-9000-00000000a002"
ORGANIZATION = 112233
DOMAIN = "contoso.example.com"


def user(number, given="Erika", surname="Muster", mail="", **more):
    """A member as Graph returns it."""
    mail = "user%03d@%s" % (number, DOMAIN) if mail == "" else mail
    member = {
        "id": "a2000000-0000-4000-8000-%012d" % number, "accountEnabled": True,
        "displayName": "%s %s %d" % (given, surname, number), "givenName": given,
        "surname": surname, "mail": mail, "department": "Test", "employeeHireDate": None,
        "userPrincipalName": "user%03d@%s" % (number, DOMAIN),
        "proxyAddresses": ["SMTP:" + mail] if mail else []}
    member.update(more)
    return member


def upn(number):
    return "user%03d@%s" % (number, DOMAIN)


def tenant(members, groups=None, **digicert):
    """A tenant file with these members in one group."""
    account = {"api_key_file": "digicert-api-key", "organizations": [ORGANIZATION],
               "issue_delay": 0.2}
    account.update(digicert)
    groups = groups or {GROUP: members}
    return {
        "tenant_id": TENANT,
        "apps": [{"client_id": CLIENT, "certificates": ["client-certificate.pem"],
                  "roles": ["DeviceManagementConfiguration.ReadWrite.All", "User.Read.All",
                            "GroupMember.Read.All"]}],
        "digicert": account,
        "groups": {key: {"members": list(value)} for key, value in groups.items()},
    }


def rule(name="staff", group=GROUP, product="secure_email_mailbox", **more):
    entry = {"name": name, "group": group, "product": product}
    if product != "secure_email_mailbox":
        entry["organization"] = ORGANIZATION
    entry.update(more)
    return entry
