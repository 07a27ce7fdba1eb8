/* The tables. A step that was released is never changed: add one. */
#include "agent/store.h"

const char *const pfx_migrations[] = {
    /* 0 -> 1. user.hex: object id without dashes, the prefix of Intune's record ids.
     * enrolment.intune: the purpose of the record, so that two rules can't both enrol a user for
     * the same one. */
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;\n"
    "CREATE TABLE user(\n"
    "  id TEXT PRIMARY KEY, hex TEXT NOT NULL UNIQUE,\n"
    "  upn TEXT NOT NULL, enabled INTEGER NOT NULL, display TEXT, given TEXT, surname TEXT,\n"
    "  mail TEXT, proxies TEXT NOT NULL, hire_date INTEGER,\n"
    "  snapshot_hash BLOB NOT NULL, seen_pass INTEGER NOT NULL, salt BLOB NOT NULL,\n"
    "  trouble TEXT, trouble_at INTEGER);\n"
    "CREATE INDEX user_upn ON user(upn COLLATE NOCASE);\n"
    "CREATE INDEX user_trouble ON user(trouble_at) WHERE trouble IS NOT NULL;\n"
    "CREATE TABLE member(\n"
    "  user TEXT NOT NULL REFERENCES user(id), rule TEXT NOT NULL, pass INTEGER NOT NULL,\n"
    "  PRIMARY KEY(user, rule)) WITHOUT ROWID;\n"
    "CREATE INDEX member_rule ON member(rule, user, pass);\n"
    "CREATE TABLE rule(name TEXT PRIMARY KEY, read_pass INTEGER NOT NULL) WITHOUT ROWID;\n"
    "CREATE TABLE enrolment(\n"
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,\n"
    "  user TEXT NOT NULL REFERENCES user(id), purpose TEXT NOT NULL, intune TEXT NOT NULL,\n"
    "  attempt INTEGER NOT NULL, state TEXT NOT NULL, ver INTEGER NOT NULL DEFAULT 1,\n"
    "  rule TEXT NOT NULL, product TEXT NOT NULL, organization INTEGER NOT NULL, years INTEGER NOT "
    "NULL,\n"
    "  days INTEGER NOT NULL, profile_type TEXT NOT NULL, indicator TEXT, client_auth INTEGER NOT "
    "NULL,\n"
    "  payment TEXT, first_name TEXT, last_name TEXT, key_type TEXT NOT NULL, profile TEXT NOT "
    "NULL,\n"
    "  addresses TEXT NOT NULL,\n"
    "  created_at INTEGER NOT NULL, changed_at INTEGER NOT NULL, admitted_at INTEGER,\n"
    "  key_ref TEXT, key_id BLOB, ticket BLOB, csr BLOB, spki BLOB,\n"
    "  order_token TEXT NOT NULL, sent_first INTEGER, sent_last INTEGER, settle_since INTEGER,\n"
    "  settle_empty INTEGER NOT NULL DEFAULT 0, order_id INTEGER, certificate_id INTEGER,\n"
    "  ordered_at INTEGER, covered INTEGER NOT NULL DEFAULT 0, ca_status TEXT,\n"
    "  info_at INTEGER, validation_at INTEGER, unvalidated TEXT, cancel_at INTEGER,\n"
    "  cert BLOB, chain BLOB, thumbprint TEXT, starts INTEGER, expires INTEGER,\n"
    "  pfx_sha BLOB, generation INTEGER, key_name TEXT, provider_name TEXT, padding TEXT, tier "
    "TEXT,\n"
    "  sealed_by TEXT, record_id TEXT, bounces INTEGER NOT NULL DEFAULT 0, active_at INTEGER,\n"
    "  fail_class TEXT, fail_op TEXT, fail_object TEXT, fail_code TEXT, fail_text TEXT,\n"
    "  fail_n INTEGER NOT NULL DEFAULT 0,\n"
    "  held_from TEXT, held_job TEXT, held_why TEXT, waived INTEGER NOT NULL DEFAULT 0);\n"
    "CREATE UNIQUE INDEX enrolment_flight ON enrolment(user, intune)\n"
    "  WHERE state NOT IN ('ACTIVE', 'FAILED', 'ENDED');\n"
    "CREATE UNIQUE INDEX enrolment_order ON enrolment(order_id) WHERE order_id IS NOT NULL;\n"
    "CREATE INDEX enrolment_user ON enrolment(user, intune, id);\n"
    "CREATE INDEX enrolment_state ON enrolment(state, changed_at);\n"
    "CREATE INDEX enrolment_sent ON enrolment(sent_last) WHERE sent_last IS NOT NULL;\n"
    "CREATE INDEX enrolment_held ON enrolment(held_why, held_job, held_from, fail_code, fail_op,\n"
    "  changed_at) WHERE state = 'HELD';\n"
    "CREATE INDEX enrolment_info ON enrolment(info_at) WHERE state = 'ORDERED';\n"
    "CREATE INDEX enrolment_validation ON enrolment(validation_at) WHERE state = 'ORDERED';\n"
    "CREATE TABLE parcel(\n"
    "  enrolment INTEGER PRIMARY KEY REFERENCES enrolment(id), pfx BLOB NOT NULL, sealed BLOB NOT "
    "NULL);\n"
    "CREATE TABLE job(\n"
    "  id INTEGER PRIMARY KEY AUTOINCREMENT, scope TEXT NOT NULL,\n"
    "  enrolment INTEGER REFERENCES enrolment(id), ver INTEGER, arm TEXT NOT NULL, kind TEXT NOT "
    "NULL,\n"
    "  payload TEXT, not_before INTEGER NOT NULL, sent_at INTEGER, lease INTEGER NOT NULL DEFAULT "
    "0,\n"
    "  incarnation TEXT, tries INTEGER NOT NULL DEFAULT 0, created_at INTEGER NOT NULL, fail_text "
    "TEXT,\n"
    "  UNIQUE(scope, kind));\n"
    "CREATE INDEX job_arm ON job(arm, not_before);\n"
    "CREATE INDEX job_due ON job(not_before);\n"
    "CREATE INDEX job_enrolment ON job(enrolment) WHERE enrolment IS NOT NULL;\n"
    "CREATE INDEX job_sent ON job(arm, sent_at) WHERE sent_at IS NOT NULL;\n"
    "CREATE TABLE record(\n"
    "  id TEXT PRIMARY KEY, user_hex TEXT NOT NULL, thumbprint TEXT NOT NULL, purpose TEXT NOT "
    "NULL,\n"
    "  upn TEXT NOT NULL, starts INTEGER, expires INTEGER, provider_name TEXT, key_name TEXT,\n"
    "  padding TEXT, pass INTEGER NOT NULL) WITHOUT ROWID;\n"
    "CREATE INDEX record_user ON record(user_hex, purpose, expires);\n"
    "CREATE TABLE trouble(scope TEXT PRIMARY KEY, since INTEGER NOT NULL, what TEXT NOT NULL)\n"
    "  WITHOUT ROWID;\n"
    "CREATE TABLE history(\n"
    "  id INTEGER PRIMARY KEY, at INTEGER NOT NULL, enrolment INTEGER, user TEXT, what TEXT NOT "
    "NULL);\n"
    "CREATE INDEX history_enrolment ON history(enrolment, id) WHERE enrolment IS NOT NULL;\n",
    /* 1 -> 2. profile_type '': the product has none. custom_fields: JSON array of id, value, id,
     * value. revoked_*: what the CA said of a delivered certificate, what its rule made of it
     * (tell, remove, enrol_again), and when a person took note. parked: why the decision waits for a
     * person after this one ended. replaces: the revoked enrolment that this one was wanted for.
     * listed: the last full reading of the CA's list that had this order. rule.read_group: whose
     * members are stored. Orders that were delivered before weren't looked at again, whatever the
     * CA said: covered is 0, so that the first poll goes back to them. */
    "ALTER TABLE enrolment ADD COLUMN custom_fields TEXT;\n"
    "ALTER TABLE enrolment ADD COLUMN comment TEXT;\n"
    "ALTER TABLE enrolment ADD COLUMN renewal_of INTEGER;\n"
    "ALTER TABLE enrolment ADD COLUMN non_repudiation INTEGER NOT NULL DEFAULT 0;\n"
    "ALTER TABLE enrolment ADD COLUMN common_name TEXT;\n"
    "ALTER TABLE enrolment ADD COLUMN pseudonym TEXT;\n"
    "ALTER TABLE enrolment ADD COLUMN revoked_at INTEGER;\n"
    "ALTER TABLE enrolment ADD COLUMN revoked_word TEXT;\n"
    "ALTER TABLE enrolment ADD COLUMN revoked_then TEXT;\n"
    "ALTER TABLE enrolment ADD COLUMN revoked_seen INTEGER;\n"
    "ALTER TABLE enrolment ADD COLUMN revoke_asked INTEGER;\n"
    "ALTER TABLE enrolment ADD COLUMN revoke_said TEXT;\n"
    "ALTER TABLE enrolment ADD COLUMN parked TEXT;\n"
    "ALTER TABLE enrolment ADD COLUMN replaces INTEGER REFERENCES enrolment(id);\n"
    "ALTER TABLE enrolment ADD COLUMN listed INTEGER NOT NULL DEFAULT 0;\n"
    "UPDATE enrolment SET info_at = NULL, validation_at = NULL, covered = 0"
    "  WHERE state <> 'ORDERED';\n"
    "DROP INDEX enrolment_info;\n"
    "CREATE INDEX enrolment_info ON enrolment(info_at) WHERE info_at IS NOT NULL;\n"
    "CREATE INDEX enrolment_uncovered ON enrolment(ordered_at)\n"
    "  WHERE covered = 0 AND order_id IS NOT NULL;\n"
    "CREATE INDEX enrolment_ordered ON enrolment(ordered_at) WHERE ordered_at IS NOT NULL;\n"
    "CREATE INDEX enrolment_revoked ON enrolment(revoked_then, revoked_at)\n"
    "  WHERE revoked_at IS NOT NULL;\n"
    "CREATE INDEX enrolment_record ON enrolment(record_id) WHERE record_id IS NOT NULL;\n"
    "CREATE INDEX enrolment_replaces ON enrolment(replaces) WHERE replaces IS NOT NULL;\n"
    "ALTER TABLE user ADD COLUMN trouble_pass INTEGER;\n"
    "ALTER TABLE rule ADD COLUMN read_group TEXT;\n"
    /* Records that shall go from Intune, and those that went: record_id in lower case. */
    "CREATE TABLE removal(\n"
    "  record_id TEXT PRIMARY KEY, user TEXT, enrolment INTEGER REFERENCES enrolment(id),\n"
    "  upn TEXT NOT NULL, thumbprint TEXT NOT NULL, purpose TEXT NOT NULL, why TEXT NOT NULL,\n"
    "  asked_at INTEGER NOT NULL, tries INTEGER NOT NULL DEFAULT 0, tried_at INTEGER,\n"
    "  fail_text TEXT, gone_at INTEGER) WITHOUT ROWID;\n"
    "CREATE INDEX removal_open ON removal(asked_at) WHERE gone_at IS NULL;\n"
    /* Exchange's shared mailboxes: addresses as a JSON array, as they stand there. read_at: start
     * of the reading that the row is of; meta mailboxes_read says which one is whole and in force.
     * rights: 0 to be asked for, 1 asked, 2 read. */
    "CREATE TABLE mailbox(\n"
    "  read_at INTEGER NOT NULL, id TEXT NOT NULL, addresses TEXT NOT NULL,\n"
    "  rights INTEGER NOT NULL DEFAULT 0, PRIMARY KEY(read_at, id)) WITHOUT ROWID;\n"
    "CREATE INDEX mailbox_rights ON mailbox(read_at, rights);\n"
    "CREATE TABLE mailbox_right(\n"
    "  read_at INTEGER NOT NULL, upn TEXT NOT NULL COLLATE NOCASE, mailbox TEXT NOT NULL,\n"
    "  PRIMARY KEY(read_at, upn, mailbox)) WITHOUT ROWID;\n",
    /* 2 -> 3. note: what waits for the operation log; n without gaps. user.log_hash: SHA-256 of
     * salt and object id, by which that log names a user; pfx_user_hash_all fills it in. */
    "CREATE TABLE note(n INTEGER PRIMARY KEY, at INTEGER NOT NULL, body TEXT NOT NULL);\n"
    "ALTER TABLE user ADD COLUMN log_hash BLOB;\n"
    "CREATE INDEX user_log ON user(log_hash) WHERE log_hash IS NOT NULL;\n",
    /* 3 -> 4. enrolment.looked: when the CA was last looked at for an order that a restored store
     * doesn't have. */
    "ALTER TABLE enrolment ADD COLUMN looked INTEGER NOT NULL DEFAULT 0;\n"
    /* generation: of the encryption key, as pfx-hsm told it last; until: when it ceased to be the
     * active one, NULL: it is. exposure: every generation
     * that the user key of an enrolment was ever sealed to, since who has that key may have this one.
     * rebuild: delivered enrolments whose PFX is made anew; begun in which round, and what was made.
     * enrolment.rebuilt_at: the last time that Intune showed such a new one. exposed_at: since when
     * its user key counts as known to others. */
    "CREATE TABLE generation(\n"
    "  generation INTEGER PRIMARY KEY, state TEXT NOT NULL, key_name TEXT NOT NULL,\n"
    "  provider_name TEXT NOT NULL, since INTEGER NOT NULL, compromised INTEGER,\n"
    "  until INTEGER);\n"
    "CREATE TABLE exposure(\n"
    "  generation INTEGER NOT NULL, enrolment INTEGER NOT NULL REFERENCES enrolment(id),\n"
    "  at INTEGER NOT NULL, PRIMARY KEY(generation, enrolment)) WITHOUT ROWID;\n"
    "CREATE INDEX exposure_enrolment ON exposure(enrolment, generation);\n"
    "INSERT INTO exposure(generation, enrolment, at)\n"
    "  SELECT generation, id, changed_at FROM enrolment WHERE generation IS NOT NULL;\n"
    "CREATE TABLE rebuild(\n"
    "  enrolment INTEGER PRIMARY KEY REFERENCES enrolment(id), ver INTEGER NOT NULL,\n"
    "  state TEXT NOT NULL, round INTEGER NOT NULL, begun_at INTEGER NOT NULL,\n"
    "  changed_at INTEGER NOT NULL, bounces INTEGER NOT NULL DEFAULT 0, pfx_sha BLOB,\n"
    "  generation INTEGER, key_name TEXT, provider_name TEXT, padding TEXT, tier TEXT,\n"
    "  sealed_by TEXT, fail_text TEXT);\n"
    "CREATE INDEX rebuild_state ON rebuild(state);\n"
    "ALTER TABLE enrolment ADD COLUMN rebuilt_at INTEGER;\n"
    "ALTER TABLE enrolment ADD COLUMN exposed_at INTEGER;\n"
    "CREATE INDEX enrolment_sealed ON enrolment(generation, id, state) WHERE state = 'ACTIVE';\n"
    "CREATE INDEX enrolment_exposed ON enrolment(id, generation, purpose)\n"
    "  WHERE exposed_at IS NOT NULL;\n"
    "CREATE INDEX record_key ON record(key_name, provider_name, purpose, expires);\n"
    /* enrolment.key_*: of a user key that isn't kept, see discard.h. The indices have the conditions
     * of its queries, so that 100,000 delivered ones are gone through page by page. */
    "ALTER TABLE enrolment ADD COLUMN key_going_at INTEGER;\n"
    "ALTER TABLE enrolment ADD COLUMN key_gone_at INTEGER;\n"
    "ALTER TABLE enrolment ADD COLUMN key_due INTEGER;\n"
    "ALTER TABLE enrolment ADD COLUMN key_said TEXT;\n"
    /* revoke_open: what a request to revoke waits for: pending (an approval at the CA), refused. */
    "ALTER TABLE enrolment ADD COLUMN revoke_open TEXT;\n"
    "CREATE INDEX enrolment_unused ON enrolment(id) WHERE state IN ('FAILED', 'ENDED')\n"
    "  AND sent_first IS NULL AND order_id IS NULL AND settle_since IS NULL\n"
    "  AND key_ref IS NOT NULL AND key_gone_at IS NULL AND key_due IS NULL;\n"
    "CREATE INDEX enrolment_delivered ON enrolment(purpose, id)\n"
    "  WHERE state IN ('ACTIVE', 'ENDED') AND active_at IS NOT NULL\n"
    "  AND key_ref IS NOT NULL AND key_gone_at IS NULL AND key_due IS NULL;\n"
    "CREATE INDEX enrolment_key ON enrolment(key_id) WHERE key_id IS NOT NULL;\n"
    "CREATE INDEX enrolment_key_due ON enrolment(key_due) WHERE key_due IS NOT NULL;\n"
    "CREATE INDEX job_discard ON job(enrolment) WHERE kind = 'hsm.key_destroy';\n"
    "CREATE INDEX enrolment_keyless ON enrolment(id, generation)\n"
    "  WHERE state = 'ACTIVE' AND (key_ref IS NULL OR key_going_at IS NOT NULL);\n"
    /* enrolment.key_epoch: of the wrapping key and MAC key that key_ref and ticket were made with.
     * rewrap_round: the last one that sent them to pfx-hsm to be made anew. */
    "ALTER TABLE enrolment ADD COLUMN key_epoch INTEGER NOT NULL DEFAULT 0;\n"
    "ALTER TABLE enrolment ADD COLUMN rewrap_round INTEGER NOT NULL DEFAULT 0;\n"
    "CREATE INDEX enrolment_epoch ON enrolment(key_epoch, rewrap_round) WHERE key_ref IS NOT NULL\n"
    "  AND key_gone_at IS NULL;\n"
    /* All that verbs_exposed.c looks at first, once there is a certificate: in the row itself it lies
     * behind certificate and chain, three pages on. */
    "CREATE INDEX enrolment_fate ON enrolment(id, user, intune, expires, order_id, revoked_at,\n"
    "  ca_status, revoke_asked, revoke_open, parked, exposed_at) WHERE expires IS NOT NULL;\n",
};
const size_t pfx_n_migrations = sizeof(pfx_migrations) / sizeof(pfx_migrations[0]);
