/* Bodies of the jobs that pfx-agentd gives to its arms. */
#include "api/wire/tables.h"

#define ENROLMENT INT("enrolment", 1, PFX_MAX_INT, 0, "row of the store")
#define USER STR("user", 36, 36, 0, "object id in Entra ID")
#define SALT BLOB("salt", 16, 16, 0, "that user's salt for the operation log")
#define ADDRESSES STRS("addresses", 64, 3, 254, 0, "every address, the first is the main one")
#define PURPOSE STR("purpose", 1, 16, 0, "signing, encryption or dual")
#define ORDER INT("order_id", 1, PFX_MAX_INT, 0, "at the CA")
#define CERT_ID INT("certificate_id", 1, PFX_MAX_INT, OPT, "at the CA")
#define PAGE STR("page", 1, 8192, OPT, "where to go on; absent at the start and at the end")
#define TIME(name, flags, help) INT(name, 0, PFX_MAX_INT, flags, help)

/* pfx-hsm */
LOCAL_SCHEMA(key_csr, "hsm.key_csr", 64 * KIB, ENROLMENT,
       INT("attempt", 1, 1000000, 0, "CKA_ID follows from enrolment and attempt"), USER, SALT,
       ADDRESSES, PURPOSE, STR("key_type", 1, 16, 0, "rsa-2048 ... ec-p384"),
       STR("profile", 1, 16, 0, "of the PFX to come: no key where it couldn't be built"));
LOCAL_SCHEMA(key_csr_result, "hsm.key_csr.result", 64 * KIB,
       STR("key_ref", 1, 16384, 0, "where the key is: opaque to pfx-agentd"),
       BLOB("key_id", 8, 64, 0, "CKA_ID"),
       BLOB("spki", 32, 2048, 0, "DER public key"),
       BLOB("csr", 64, 32768, 0, "DER PKCS#10 request"),
       BLOB("ticket", 32, 32, 0, "MAC over user, salt, addresses, purpose and key"),
       INT("epoch", 0, PFX_MAX_INT, OPT, "of the wrapping key and MAC key that it was made with"));

/* What pfx-agentd keeps of a user key, under the wrapping key and MAC key that are active now. */
LOCAL_SCHEMA(rewrap, "hsm.rewrap", 128 * KIB, ENROLMENT,
       STR("key_ref", 1, 16384, 0, "as pfx-hsm gave it"),
       BLOB("ticket", 32, 32, 0, "as pfx-hsm gave it"), USER, SALT, ADDRESSES, PURPOSE);
LOCAL_SCHEMA(rewrap_result, "hsm.rewrap.result", 32 * KIB,
       STR("key_ref", 1, 16384, 0, "in place of the one that came"),
       BLOB("ticket", 32, 32, 0, "likewise"),
       INT("epoch", 1, PFX_MAX_INT, 0, "of the wrapping key and MAC key that it was made with"));

LOCAL_SCHEMA(build_seal, "hsm.build_seal", MIB, ENROLMENT,
       STR("key_ref", 1, 16384, 0, "as pfx-hsm gave it"),
       BLOB("ticket", 32, 32, 0, "as pfx-hsm gave it"), USER, SALT, ADDRESSES, PURPOSE,
       BLOB("leaf", 64, 32768, 0, "DER certificate"),
       BLOBS("chain", 8, 64, 32768, 0, "intermediates, issuer of the leaf first"),
       STR("friendly_name", 1, 256, 0, "shown by the device"),
       STR("profile", 1, 16, 0, "modern or compat"));
LOCAL_SCHEMA(build_seal_result, "hsm.build_seal.result", MIB,
       BLOB("pfx", 64, 512 * KIB, 0, "PKCS#12 file"),
       BLOB("pfx_sha256", 32, 32, 0, "its hash"),
       BLOB("sealed", 128, 1024, 0, "its password under the encryption key"),
       INT("generation", 1, 1000000, 0, "of the encryption key"),
       STR("key_name", 1, 128, 0, "Intune's keyName"),
       STR("provider_name", 1, 256, 0, "Intune's providerName"),
       STR("padding", 1, 16, 0, "oaepSha256, oaepSha384 or oaepSha512"),
       STR("tier", 1, 16, 0, "direct or transit"),
       STR("sealed_by", 1, 16, 0, "token or openssl"));

/* Of a key that isn't kept: the ticket proves for whom and for what it was made. */
LOCAL_SCHEMA(key_destroy, "hsm.key_destroy", 128 * KIB, ENROLMENT,
       INT("attempt", 1, 1000000, 0, "CKA_ID follows from enrolment and attempt"),
       STR("key_ref", 1, 16384, 0, "as pfx-hsm gave it"),
       BLOB("ticket", 32, 32, 0, "as pfx-hsm gave it"), USER, SALT, ADDRESSES, PURPOSE,
       STR("why", 1, 16, 0, "delivered, or unused: no PFX was ever built from it"));
LOCAL_SCHEMA(key_destroy_result, "hsm.key_destroy.result", KIB,
       BOOL("found", 0, "the token had it, and it isn't found there any more"),
       BOOL("wrapped", 0, "it was never in the token: the blob is pfx-agentd's to erase"));

LOCAL_SCHEMA(report_generation, "generation", 2 * KIB, INT("generation", 1, 1000000, 0, "number"),
       STR("state", 1, 16, 0, "making, staged, active, suspended, retired, compromised or destroyed"),
       STR("key_name", 1, 128, 0, "Intune's keyName"),
       STR("provider_name", 1, 256, 0, "Intune's providerName"),
       TIME("since", 0, "when it came into this state, ms UTC; 0: not known"),
       TIME("compromised", OPT, "when that was said, ms UTC: stays when the key is destroyed"));
LOCAL_SCHEMA(hsm_report_result, "hsm.report.result", 128 * KIB,
       BOOL("ready", 0, "initialised, logged in, pins sound"),
       STR("why_not", 1, 639, OPT, "and the next step"),
       INT("generation", 1, 1000000, OPT, "active generation of the encryption key"),
       INT("epoch", 0, PFX_MAX_INT, OPT, "of the wrapping key and MAC key in force; grows"),
       STR("encryption_key", 64, 64, OPT, "SHA-256 of its public key, hex"),
       OBJS("generations", 64, &report_generation, OPT,
            "every generation of the encryption key; absent: the pins can't be read now"),
       STR("user_keys", 1, 16, 0, "token or wrapped"),
       STR("tier_rsa", 1, 16, 0, "direct, transit or none"),
       STR("tier_ec", 1, 16, 0, "direct, transit or none"),
       STR("compat_tier_rsa", 1, 16, OPT, "the same for the profile compat, where it is allowed"),
       STR("compat_tier_ec", 1, 16, OPT, "the same for the profile compat, where it is allowed"),
       STRS("after_delivery", 3, 1, 16, OPT, "purposes whose user keys are destroyed then"),
       STRS("notes", 32, 1, 639, 0, "what an operator should know: encryption not separated, ..."));

/* What pfx-agentd decided or saw, for the operation log. */
LOCAL_SCHEMA(log_note, "log.note", 4 * KIB,
       INT("n", 1, PFX_MAX_INT, 0, "pfx-agentd's own number, without gaps"),
       TIME("at", 0, "when, ms UTC"), STR("event", 3, 48, 0, "order.placed, upload.confirmed, ..."),
       STR("outcome", 2, 16, 0, "ok, refused, transient, ..."),
       STR("actor", 4, 16, 0, "self or operator"),
       INT("uid", 0, PFX_MAX_INT, OPT, "of the operator"),
       INT("enrolment", 1, PFX_MAX_INT, OPT, "row of the store"),
       INT("attempt", 1, 1000000, OPT, "of that enrolment"),
       BLOB("user", 32, 32, OPT, "SHA-256 of salt and object id"),
       STR("name", 1, 128, OPT, "command, record or reason: a word, nobody's name"),
       INT("order_id", 1, PFX_MAX_INT, OPT, "at DigiCert"),
       STR("transaction", 1, 128, OPT, "at a CA by CMP"),
       BLOB("thumbprint", 20, 32, OPT, "of the certificate, as Intune names it"),
       BLOB("certificate", 32, 32, OPT, "SHA-256 of the certificate"),
       BLOB("key_id", 8, 64, OPT, "CKA_ID"), BLOB("pfx", 32, 32, OPT, "SHA-256 of the PFX file"),
       INT("generation", 1, 1000000, OPT, "of the encryption key"),
       INT("count", 0, PFX_MAX_INT, OPT, "how many"),
       STR("fail_op", 1, 64, OPT, "what was being done"),
       STR("fail_code", 1, 64, OPT, "HTTP status, AADSTS code, ...: never an answer's text"));
LOCAL_SCHEMA(hsm_log, "hsm.log", MIB, OBJS("notes", 200, &log_note, 0, "in order of n"));
LOCAL_SCHEMA(hsm_log_result, "hsm.log.result", KIB,
       INT("n", 0, PFX_MAX_INT, 0, "the last number that is in the log, and on disk"));

/* pfx-uploader: the directory and Intune */
LOCAL_SCHEMA(up_members, "up.members", 32 * KIB, STR("group", 36, 36, 0, "object id of the group"), PAGE);
LOCAL_SCHEMA(pfx_s_member, "member", 256 * KIB, STR("id", 36, 36, 0, "object id, lower case"),
       STR("upn", 1, 1024, 0, "user principal name"), BOOL("enabled", 0, "account enabled"),
       STR("display", 1, 1024, OPT, "display name"), STR("given", 1, 1024, OPT, "given name"),
       STR("surname", 1, 1024, OPT, "surname"), STR("mail", 1, 1024, OPT, "mail"),
       STRS("proxies", 1000, 1, 2048, 0, "proxyAddresses as they stand"),
       STR("department", 1, 1024, OPT, "department"),
       TIME("hire_date", OPT, "employeeHireDate, ms UTC"));
LOCAL_SCHEMA(up_members_result, "up.members.result", 10 * MIB,
       OBJS("users", 1000, &pfx_s_member, 0, "one page"), PAGE);

LOCAL_SCHEMA(up_records, "up.records", 32 * KIB, PAGE);
LOCAL_SCHEMA(pfx_s_record, "record", 16 * KIB, STR("id", 1, 128, 0, "object id without dashes, -, thumbprint"),
       STR("thumbprint", 0, 128, 0, "hex SHA-1, lower case"),
       STR("purpose", 1, 32, 0, "Intune's intendedPurpose"),
       STR("upn", 0, 1024, 0, "as Intune has it"),
       TIME("starts", OPT, "startDateTime, ms UTC"), TIME("expires", OPT, "expirationDateTime, ms UTC"),
       STR("provider_name", 0, 256, OPT, "providerName"), STR("key_name", 0, 256, OPT, "keyName"),
       STR("padding", 1, 32, OPT, "paddingScheme"));
LOCAL_SCHEMA(up_records_result, "up.records.result", 10 * MIB,
       OBJS("records", 5000, &pfx_s_record, 0, "one page"), PAGE);

#define IMPORT_FIELDS                                                                              \
    USER, STR("record_id", 40, 128, 0, "object id without dashes, -, thumbprint"),                 \
        STR("thumbprint", 40, 40, 0, "hex SHA-1, lower case"),                                     \
        STR("purpose", 1, 32, 0, "smimeSigning or smimeEncryption"),                               \
        STR("upn", 1, 1024, 0, "user principal name now"),                                         \
        TIME("starts", 0, "notBefore, ms UTC"), TIME("expires", 0, "notAfter, ms UTC"),            \
        STR("provider_name", 1, 256, 0, "providerName"), STR("key_name", 1, 128, 0, "keyName"),    \
        STR("padding", 1, 16, 0, "paddingScheme"), BLOB("pfx", 64, 512 * KIB, 0, "PKCS#12 file"), \
        BLOB("sealed", 128, 1024, 0, "its password under the encryption key")
LOCAL_SCHEMA(up_import, "up.import", MIB, IMPORT_FIELDS);
LOCAL_SCHEMA(up_import_settle, "up.import_settle", MIB, IMPORT_FIELDS);
LOCAL_SCHEMA(up_import_result, "up.import.result", 4 * KIB, STR("record_id", 1, 128, 0, "Intune's id"),
       BOOL("updated", 0, "the record was there already"));
LOCAL_SCHEMA(up_readback, "up.readback", 4 * KIB, STR("record_id", 1, 128, 0, "Intune's id"));
LOCAL_SCHEMA(up_readback_result, "up.readback.result", 32 * KIB, BOOL("present", 0, "found by id"),
       OBJ("record", &pfx_s_record, OPT, "if present"));

/* Removes a record and looks whether it is gone; Intune may keep it for a while: again later. */
LOCAL_SCHEMA(up_remove, "up.remove", 4 * KIB, STR("record_id", 1, 128, 0, "Intune's id"));
LOCAL_SCHEMA(up_remove_result, "up.remove.result", KIB, BOOL("gone", 0, "not found by id any more"));

/* Exchange: shared mailboxes, and who may open them. */
LOCAL_SCHEMA(up_mailboxes, "up.mailboxes", 32 * KIB, PAGE);
LOCAL_SCHEMA(pfx_s_mailbox, "mailbox", 256 * KIB, STR("id", 1, 320, 0, "its identity at Exchange"),
       STRS("addresses", 400, 3, 320, 0, "as they stand, with SMTP: or smtp:"));
LOCAL_SCHEMA(up_mailboxes_result, "up.mailboxes.result", 10 * MIB,
       OBJS("mailboxes", 1000, &pfx_s_mailbox, 0, "one page"), PAGE);
LOCAL_SCHEMA(up_mailbox_rights, "up.mailbox_rights", 16 * KIB, STR("id", 1, 320, 0, "of the mailbox"));
LOCAL_SCHEMA(up_mailbox_rights_result, "up.mailbox_rights.result", 4 * MIB,
       STRS("users", 5000, 1, 1024, 0, "UPNs with full access, neither inherited nor denied"));

/* Setup: looks whether the accounts are ready, and orders and changes nothing. */
LOCAL_SCHEMA(pfx_s_finding, "finding", 16 * KIB, STR("what", 1, 200, 0, "was looked at"),
       STR("level", 1, 8, 0, "ok, warn or bad"), STR("text", 1, 639, 0, "what is so"),
       STR("next", 1, 639, OPT, "what mends it: a click path or a sentence"),
       STR("command", 1, 4000, OPT, "what mends it: a command for a shell"));
LOCAL_SCHEMA(setup_product, "setup_product", 4 * KIB, STR("rule", 1, 64, 0, "of agent.yaml"),
       STR("product", 1, 64, 0, "name id"), INT("organization", 1, PFX_MAX_INT, OPT, "id at the CA"),
       STR("payment_method", 1, 16, OPT, "profile or balance"),
       STRS("custom_fields", 16, 1, 20, 0, "ids, decimal"));
LOCAL_SCHEMA(up_setup_ca, "up.setup_ca", MIB + 128 * KIB,
       OBJS("products", 1000, &setup_product, 0, "of the rules"));
LOCAL_SCHEMA(up_setup_entra, "up.setup_entra", 256 * KIB,
       STRS("groups", 1000, 36, 36, 0, "object ids of the rules' groups"),
       BOOL("mailboxes", 0, "a rule wants shared mailboxes"),
       BOOL("mail", 0, "mail is to be sent"));
LOCAL_SCHEMA(up_setup_result, "up.setup.result", 2 * MIB,
       OBJS("findings", 2000, &pfx_s_finding, 0, "in the order of the checks"));

/* pfx-uploader: the CA */
LOCAL_SCHEMA(custom_field, "custom_field", 2 * KIB, INT("id", 1, PFX_MAX_INT, 0, "metadata_id"),
       STR("value", 1, 255, 0, "what stands in it"));
LOCAL_SCHEMA(up_order, "up.order", 128 * KIB, ENROLMENT, STR("product", 1, 64, 0, "name id"), ADDRESSES,
       BLOB("csr", 64, 32768, 0, "DER PKCS#10 request"),
       STR("token", 36, 36, 0, "GUID that goes into the comments"),
       INT("organization", 1, PFX_MAX_INT, OPT, "id at the CA"),
       INT("years", 1, 3, OPT, "validity"), INT("days", 1, 824, OPT, "validity"),
       STR("profile_type", 1, 16, OPT, "strict or multipurpose; for products that have it"), PURPOSE,
       STRS("additional_usages", 4, 1, 32, 0, "non_repudiation, client_auth"),
       STR("common_name_indicator", 1, 32, OPT, "products with an organization"),
       STR("common_name", 1, 64, OPT, "legacy products"),
       STR("first_name", 1, 64, OPT, "products for a person"),
       STR("last_name", 1, 64, OPT, "products for a person"),
       STR("pseudonym", 1, 64, OPT, "indicator pseudonym"),
       STR("payment_method", 1, 16, OPT, "profile or balance"),
       OBJS("custom_fields", 16, &custom_field, 0, "as the account has them"),
       STR("comment", 1, 200, OPT, "behind the token in the comments"),
       INT("renewal_of", 1, PFX_MAX_INT, OPT, "order that this one renews"));
/* A CA that issues at once may send the certificate in its answer: then both leaf and chain stand. */
LOCAL_SCHEMA(up_order_result, "up.order.result", MIB, ORDER, CERT_ID,
       STR("status", 1, 32, OPT, "of its request"), BLOB("leaf", 64, 32768, OPT, "DER certificate"),
       BLOBS("chain", 8, 64, 32768, 0, "intermediates, issuer of the leaf first"));
/* A CA of one's own sells nothing: it is sent the same request again, so it needs the CSR. */
LOCAL_SCHEMA(up_order_settle, "up.order_settle", 128 * KIB, STR("product", 1, 64, 0, "name id"), ADDRESSES,
       BLOB("spki", 32, 2048, 0, "public key of the request"),
       BLOB("csr", 64, 32768, OPT, "DER PKCS#10 request"),
       STR("token", 36, 36, 0, "GUID in the comments"), TIME("since", 0, "when the order was sent"));
LOCAL_SCHEMA(pfx_s_order_change, "order_change", KIB, ORDER, CERT_ID, STR("status", 1, 64, 0, "new status"));
LOCAL_SCHEMA(up_order_settle_result, "up.order_settle.result", MIB, BOOL("found", 0, "same CSR key"),
       INT("order_id", 1, PFX_MAX_INT, OPT, "if found"), CERT_ID,
       STR("status", 1, 32, OPT, "if found"), BLOB("leaf", 64, 32768, OPT, "as in up.order.result"),
       BLOBS("chain", 8, 64, 32768, OPT, "as in up.order.result"),
       OBJS("others", 50, &pfx_s_order_change, OPT,
            "if not found: orders of an agent for these addresses, of other keys"));
LOCAL_SCHEMA(up_order_changes, "up.order_changes", KIB, INT("minutes", 1, 10080, 0, "how far back"));
LOCAL_SCHEMA(up_order_changes_result, "up.order_changes.result", 10 * MIB,
       OBJS("orders", 60000, &pfx_s_order_change, 0, "orders of the whole account"));
/* Every order of the account, newest first: when status changes don't reach back far enough. */
LOCAL_SCHEMA(up_orders, "up.orders", 32 * KIB, PAGE);
LOCAL_SCHEMA(up_orders_result, "up.orders.result", 10 * MIB,
       OBJS("orders", 5000, &pfx_s_order_change, 0, "one page"), PAGE);
LOCAL_SCHEMA(up_order_resend, "up.order_resend", KIB, ORDER);
LOCAL_SCHEMA(up_order_resend_result, "up.order_resend.result", KIB, ORDER);
LOCAL_SCHEMA(up_order_revoke, "up.order_revoke", 4 * KIB, ORDER, CERT_ID,
       STR("comment", 1, 255, 0, "why"));
LOCAL_SCHEMA(up_order_revoke_result, "up.order_revoke.result", KIB, ORDER,
       BOOL("pending", 0, "the CA's account has to approve it first"));
LOCAL_SCHEMA(up_order_info, "up.order_info", KIB, ORDER);
LOCAL_SCHEMA(up_order_info_result, "up.order_info.result", 4 * KIB, ORDER, CERT_ID,
       STR("status", 1, 64, 0, "pending, issued, ..."));
LOCAL_SCHEMA(up_order_validation, "up.order_validation", KIB, ORDER);
LOCAL_SCHEMA(up_order_validation_result, "up.order_validation.result", 64 * KIB,
       STRS("validated", 64, 1, 254, 0, "addresses"), STRS("unvalidated", 64, 1, 254, 0, "addresses"));
LOCAL_SCHEMA(up_order_cancel, "up.order_cancel", 4 * KIB, ORDER, STR("note", 1, 255, 0, "required by the CA"));
LOCAL_SCHEMA(up_order_cancel_result, "up.order_cancel.result", KIB, ORDER);
/* A CA that keeps no orders issues again: for it csr and token stand. */
LOCAL_SCHEMA(up_download, "up.download", 64 * KIB, ORDER, BLOB("spki", 32, 2048, 0, "of the leaf"),
       BLOB("csr", 64, 32768, OPT, "DER PKCS#10 request"),
       STR("token", 36, 36, OPT, "GUID of the order"));
LOCAL_SCHEMA(up_download_result, "up.download.result", MIB, BLOB("leaf", 64, 32768, 0, "DER certificate"),
       BLOBS("chain", 8, 64, 32768, 0, "intermediates, issuer of the leaf first"));

const struct pfx_wire_pair pfx_wire_jobs[] = {
    {"hsm.key_csr", &key_csr, &key_csr_result},
    {"hsm.rewrap", &rewrap, &rewrap_result},
    {"hsm.build_seal", &build_seal, &build_seal_result},
    {"hsm.key_destroy", &key_destroy, &key_destroy_result},
    {"hsm.report", &pfx_s_none, &hsm_report_result},
    {"hsm.log", &hsm_log, &hsm_log_result},
    {"up.members", &up_members, &up_members_result},
    {"up.records", &up_records, &up_records_result},
    {"up.import", &up_import, &up_import_result},
    {"up.import_settle", &up_import_settle, &up_import_result},
    {"up.readback", &up_readback, &up_readback_result},
    {"up.order", &up_order, &up_order_result},
    {"up.order_settle", &up_order_settle, &up_order_settle_result},
    {"up.order_changes", &up_order_changes, &up_order_changes_result},
    {"up.order_info", &up_order_info, &up_order_info_result},
    {"up.order_validation", &up_order_validation, &up_order_validation_result},
    {"up.order_cancel", &up_order_cancel, &up_order_cancel_result},
    {"up.download", &up_download, &up_download_result},
    {"up.orders", &up_orders, &up_orders_result},
    {"up.order_resend", &up_order_resend, &up_order_resend_result},
    {"up.order_revoke", &up_order_revoke, &up_order_revoke_result},
    {"up.remove", &up_remove, &up_remove_result},
    {"up.mailboxes", &up_mailboxes, &up_mailboxes_result},
    {"up.mailbox_rights", &up_mailbox_rights, &up_mailbox_rights_result},
    {"up.setup_ca", &up_setup_ca, &up_setup_result},
    {"up.setup_entra", &up_setup_entra, &up_setup_result},
    {NULL, NULL, NULL},
};
