/* Verbs on pfx-agentd's socket for the CLI. An item's "kind" says which of its members stand. */
#include "api/wire/tables.h"

#define SELECT                                                                                     \
    INT("enrolment", 1, PFX_MAX_INT, OPT, "this one"),                                             \
        STR("user", 1, 1024, OPT, "those of this user: object id or UPN"),                         \
        STR("state", 1, 16, OPT, "those in this state"), BOOL("all", OPT, "every one")

LOCAL_SCHEMA(run_args, "run", KIB, BOOL("dry_run", OPT, "plan only"),
       INT("wait", 0, 86400, OPT, "go on polling the CA for this many seconds"));
LOCAL_SCHEMA(run_item, "run.item", 64 * KIB,
       STR("kind", 1, 16, 0, "plan, progress, trouble or summary"),
       STR("user", 1, 1024, OPT, "plan: UPN"), STR("name", 1, 1024, OPT, "plan: display name"),
       STR("rule", 1, 64, OPT, "plan: rule that applies"), STR("product", 1, 64, OPT, "plan"),
       STR("purpose", 1, 16, OPT, "plan"), STRS("addresses", 64, 1, 254, OPT, "plan"),
       STR("decision", 1, 16, OPT, "plan: order, hold, skip, wait or refuse"),
       STR("why", 1, 639, OPT, "plan: why; trouble: what"),
       STR("next", 1, 639, OPT, "trouble: the next step"),
       STR("phase", 1, 64, OPT, "progress: what is going on"),
       INT("total", 0, PFX_MAX_INT, OPT, "enrolments in this run"),
       INT("finished", 0, PFX_MAX_INT, OPT, "active"),
       INT("working", 0, PFX_MAX_INT, OPT, "moving"),
       INT("waiting", 0, PFX_MAX_INT, OPT, "for the CA"),
       INT("held", 0, PFX_MAX_INT, OPT, "for a person"),
       INT("failed", 0, PFX_MAX_INT, OPT, "ended without a certificate"),
       INT("ordered", 0, PFX_MAX_INT, OPT, "orders placed in this run"));

LOCAL_SCHEMA(status_item, "status.item", 16 * KIB,
       STR("kind", 1, 16, 0, "fact, arm, count, wait or trouble"),
       STR("name", 1, 128, OPT, "fact, arm, count: of what"), STR("value", 0, 639, OPT, "fact, arm"),
       STR("level", 1, 8, OPT, "ok, warn or bad"), INT("count", 0, PFX_MAX_INT, OPT, "count, wait"),
       STR("who", 1, 64, OPT, "wait: for whom"), STR("what", 1, 639, OPT, "wait, trouble"),
       STR("next", 1, 639, OPT, "wait, trouble: the next step"),
       INT("since", 0, PFX_MAX_INT, OPT, "wait: the oldest, ms UTC"));

LOCAL_SCHEMA(enrolment_args, "enrolment", 4 * KIB, SELECT);
LOCAL_SCHEMA(enrolment_item, "enrolment.item", 512 * KIB, INT("enrolment", 1, PFX_MAX_INT, 0, "number"),
       STR("user", 36, 36, 0, "object id"), STR("upn", 1, 1024, 0, "user principal name"),
       STR("name", 1, 1024, OPT, "display name"), STR("rule", 1, 64, 0, "rule that applied"),
       STR("purpose", 1, 16, 0, "signing, encryption or dual"),
       INT("attempt", 1, 1000000, 0, "of this user and purpose"),
       STR("state", 1, 16, 0, "of the flow"), STR("why", 1, 1000, OPT, "what it waits for, or what failed"),
       STR("next", 1, 639, OPT, "next step for a person"),
       INT("due", 0, PFX_MAX_INT, OPT, "when it moves next, ms UTC"),
       INT("changed", 0, PFX_MAX_INT, 0, "last change, ms UTC"),
       INT("order_id", 1, PFX_MAX_INT, OPT, "at the CA"),
       STRS("addresses", 64, 1, 254, 0, "in the certificate"),
       STRS("unvalidated", 64, 1, 254, OPT, "addresses that the CA still waits for"),
       STR("thumbprint", 40, 40, OPT, "of the certificate"),
       STR("record_id", 1, 128, OPT, "in Intune"), STR("tier", 1, 16, OPT, "export tier"),
       INT("generation", 1, 1000000, OPT, "encryption key of the sealed password"),
       STR("pfx_sha256", 64, 64, OPT, "hash of the PFX"),
       INT("expires", 0, PFX_MAX_INT, OPT, "notAfter, ms UTC"),
       STR("key", 1, 16, OPT, "user key: kept, going or destroyed"),
       INT("key_gone", 0, PFX_MAX_INT, OPT, "when it was destroyed, ms UTC"),
       STRS("history", 200, 1, 1000, OPT, "show: a line each step, oldest first"));
LOCAL_SCHEMA(revoke_args, "revoke", 4 * KIB, INT("enrolment", 1, PFX_MAX_INT, 0, "this one"),
       STR("reason", 1, 200, 0, "goes to the CA"));
LOCAL_SCHEMA(setup_item, "setup.item", 16 * KIB, STR("what", 1, 200, 0, "was looked at"),
       STR("level", 1, 8, 0, "ok, warn or bad"), STR("text", 1, 639, 0, "what is so"),
       STR("next", 1, 639, OPT, "what mends it: a click path or a sentence"),
       STR("command", 1, 4000, OPT, "what mends it: a command for a shell"));
LOCAL_SCHEMA(record_args, "record", 4 * KIB, STR("user", 1, 1024, OPT, "object id or UPN"),
       STR("id", 1, 128, OPT, "Intune's id of a record"), BOOL("all", OPT, "every one"));
LOCAL_SCHEMA(record_item, "record.item", 16 * KIB, STR("id", 1, 128, 0, "Intune's id"),
       STR("upn", 0, 1024, 0, "as Intune has it"), STR("thumbprint", 0, 128, 0, "hex SHA-1"),
       STR("purpose", 1, 32, 0, "Intune's intendedPurpose"),
       INT("starts", 0, PFX_MAX_INT, OPT, "ms UTC"), INT("expires", 0, PFX_MAX_INT, OPT, "ms UTC"),
       STR("key_name", 0, 256, OPT, "encryption key of its password"),
       STR("provider_name", 0, 256, OPT, "provider of that key"),
       INT("enrolment", 1, PFX_MAX_INT, OPT, "ours"),
       STR("state", 1, 16, 0, "there, removing or gone"),
       INT("read", 0, PFX_MAX_INT, OPT, "when Intune's list was last read, ms UTC"));
LOCAL_SCHEMA(pause_args, "pause", 256, BOOL("orders", OPT, "no new orders"),
       BOOL("uploads", OPT, "no imports to Intune, no removals"),
       BOOL("rebuild", OPT, "no records are rebuilt"));

/* Generations of the encryption key, and the records in Intune that name them. */
LOCAL_SCHEMA(key_record_item, "key_record.item", 16 * KIB,
       STR("kind", 1, 16, 0, "generation, foreign, blocker or summary"),
       INT("generation", 1, 1000000, OPT, "generation, blocker: which"),
       STR("state", 1, 16, OPT, "generation: as pfx-hsm told it last"),
       STR("key_name", 0, 256, OPT, "generation, foreign: keyName of the records"),
       STR("provider_name", 0, 256, OPT, "generation, foreign: providerName of the records"),
       BOOL("known", OPT, "generation: Intune's list was read whole since it sealed last"),
       INT("records", 0, PFX_MAX_INT, OPT, "in Intune, and somebody needs them to be opened"),
       INT("over", 0, PFX_MAX_INT, OPT, "in Intune, of signing certificates that have expired"),
       INT("flight", 0, PFX_MAX_INT, OPT, "being packed for it, or on their way to Intune"),
       INT("held", 0, PFX_MAX_INT, OPT, "rebuilding them failed"),
       INT("exposed", 0, PFX_MAX_INT, OPT, "user keys that were ever sealed to it"),
       INT("last", 0, PFX_MAX_INT, OPT, "latest expiry of those records, ms UTC"),
       INT("since", 0, PFX_MAX_INT, OPT, "generation: in this state, ms UTC"),
       INT("compromised", 1, PFX_MAX_INT, OPT, "generation: since when, ms UTC"),
       INT("enrolment", 1, PFX_MAX_INT, OPT, "blocker: ours"),
       STR("upn", 0, 1024, OPT, "blocker: whose"), STR("record_id", 1, 128, OPT, "blocker"),
       STR("why", 1, 639, OPT, "blocker: why it isn't rebuilt; summary: what isn't known"),
       STR("next", 1, 639, OPT, "blocker, summary: the next step"),
       INT("until", 0, PFX_MAX_INT, OPT, "blocker: its certificate ends then, ms UTC"),
       INT("read", 0, PFX_MAX_INT, OPT, "summary: when Intune's list was read, ms UTC"),
       INT("blockers", 0, PFX_MAX_INT, OPT, "summary: how many there are"));

LOCAL_SCHEMA(rebuild_args, "rebuild", KIB, BOOL("dry_run", OPT, "only say what would be done"),
       INT("wait", 0, 86400, OPT, "tell of it for so many seconds, or until it is done"));
LOCAL_SCHEMA(rebuild_item, "rebuild.item", 4 * KIB,
       STR("kind", 1, 16, 0, "plan, progress or summary"),
       STR("phase", 1, 64, 0, "what is going on"),
       INT("target", 1, 1000000, OPT, "generation that is sealed to"),
       INT("left", 0, PFX_MAX_INT, 0, "records that name another generation"),
       INT("done", 0, PFX_MAX_INT, 0, "rebuilt since it began"),
       INT("working", 0, PFX_MAX_INT, 0, "on their way"),
       INT("held", 0, PFX_MAX_INT, 0, "refused: for a person"),
       INT("passed", 0, PFX_MAX_INT, 0, "passed over: pfx-agent key records says why"),
       INT("left_ms", 0, PFX_MAX_INT, 0, "estimate of the time for the others"));

LOCAL_SCHEMA(exposed_args, "exposed", KIB,
       INT("generation", 1, 1000000, OPT, "this one; absent: those that are compromised"),
       BOOL("all", OPT, "every certificate, not only those that need a person"));
LOCAL_SCHEMA(exposed_item, "exposed.item", 8 * KIB, STR("kind", 1, 16, 0, "exposed or summary"),
       INT("enrolment", 1, PFX_MAX_INT, OPT, "exposed: ours"), STR("upn", 0, 1024, OPT, "whose"),
       INT("generation", 1, 1000000, OPT, "that exposes it; summary: that was asked about"),
       STR("purpose", 1, 16, OPT, "signing, encryption or dual"),
       STR("state", 1, 16, OPT, "replaced, ordering, waiting, over or nobody"),
       INT("successor", 1, PFX_MAX_INT, OPT, "enrolment in its place"),
       STR("revocation", 1, 16, OPT, "done, asked, refused, waiting, none or over"),
       STR("said", 1, 639, OPT, "the CA's answer to that"),
       STR("next", 1, 639, OPT, "what a person does about it"),
       INT("expires", 0, PFX_MAX_INT, OPT, "notAfter, ms UTC"),
       INT("exposed", 0, PFX_MAX_INT, OPT, "summary: certificates whose user keys are exposed"),
       INT("replaced", 0, PFX_MAX_INT, OPT, "summary: another one is in their place"),
       INT("ordering", 0, PFX_MAX_INT, OPT, "summary: another one is in work"),
       INT("waiting", 0, PFX_MAX_INT, OPT, "summary: orders that passes will place"),
       INT("nobody", 0, PFX_MAX_INT, OPT, "summary: nobody orders another one"),
       INT("revoked", 0, PFX_MAX_INT, OPT, "summary: the CA has revoked them"),
       INT("asked", 0, PFX_MAX_INT, OPT, "summary: the CA is asked"),
       INT("refused", 0, PFX_MAX_INT, OPT, "summary: the CA didn't"),
       INT("orders_a_day", 0, PFX_MAX_INT, OPT, "summary: max_orders_per_day"));

LOCAL_SCHEMA(rewrap_args, "rewrap", KIB, BOOL("count", OPT, "only count what is left"),
       INT("wait", 0, 86400, OPT, "tell of it for so many seconds, or until it is done"));
LOCAL_SCHEMA(rewrap_item, "rewrap.item", 2 * KIB, STR("phase", 1, 64, 0, "what is going on"),
       INT("epoch", 0, PFX_MAX_INT, 0, "of the wrapping key and MAC key in force, as pfx-hsm says"),
       INT("left", 0, PFX_MAX_INT, 0, "user keys that still need an earlier one"),
       INT("working", 0, PFX_MAX_INT, 0, "on their way"),
       INT("held", 0, PFX_MAX_INT, 0, "refused: for a person"),
       INT("done", 0, PFX_MAX_INT, 0, "made anew since it began"));

LOCAL_SCHEMA(log_name_item, "log.name", 64 * KIB, STR("user", 64, 64, 0, "as log entries name them"),
       STR("salt", 32, 32, 0, "hex; user is SHA-256(salt | object id)"),
       STR("id", 36, 36, 0, "object id"), STR("upn", 0, 1024, OPT, "user principal name"),
       STRS("addresses", 64, 3, 254, OPT, "mail addresses of their certificates"));

LOCAL_SCHEMA(backup_item, "backup.store.item", KIB,
       STR("file", 1, 64, 0, "name of the copy in the state folder"),
       INT("size", 0, PFX_MAX_INT, 0, "of it, in bytes"), INT("made", 0, PFX_MAX_INT, 0, "ms UTC"));

LOCAL_SCHEMA(copies_args, "key.copies", KIB, INT("enrolment", 1, PFX_MAX_INT, OPT, "its number"),
       STR("key_id", 1, 128, OPT, "or the key's CKA_ID, hex"));
LOCAL_SCHEMA(copies_item, "key.copies.item", 8 * KIB, INT("enrolment", 1, PFX_MAX_INT, 0, "its number"),
       STR("place", 1, 16, 0, "hsm, store, parcel, intune, sealed, devices or backups"),
       STR("state", 1, 16, 0, "there, going, gone or unknown"),
       STR("id", 1, 128, OPT, "CKA_ID, or Intune's id of the record"),
       STR("text", 1, 639, OPT, "what it is"));

const struct pfx_wire_pair pfx_wire_agent[] = {
    {"key.copies", &copies_args, &copies_item},
    {"run", &run_args, &run_item},
    {"status", &pfx_s_none, &status_item},
    {"enrolment.list", &enrolment_args, &enrolment_item},
    {"enrolment.show", &enrolment_args, &enrolment_item},
    {"enrolment.cancel", &enrolment_args, &enrolment_item},
    {"enrolment.retry", &enrolment_args, &enrolment_item},
    {"enrolment.release", &enrolment_args, &enrolment_item},
    {"enrolment.resend", &enrolment_args, &enrolment_item},
    {"enrolment.revoke", &revoke_args, &enrolment_item},
    {"record.list", &record_args, &record_item},
    {"record.remove", &record_args, &record_item},
    {"setup.digicert", &pfx_s_none, &setup_item},
    {"setup.entra", &pfx_s_none, &setup_item},
    {"log.names", &pfx_s_none, &log_name_item},
    {"backup.store", &pfx_s_none, &backup_item},
    {"key.records", &pfx_s_none, &key_record_item},
    {"key.exposed", &exposed_args, &exposed_item},
    {"key.rebuild", &rebuild_args, &rebuild_item},
    {"key.rewrap", &rewrap_args, &rewrap_item},
    {"pause", &pause_args, NULL},
    {"resume", &pause_args, NULL},
    {NULL, NULL, NULL},
};
