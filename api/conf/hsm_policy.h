/* /etc/pfx-agent/hsm-policy.yaml: root-owned; what pfx-hsm does, whatever it is asked. */
#ifndef PFX_CONF_HSM_POLICY_H
#define PFX_CONF_HSM_POLICY_H

#include "crypto/key.h"
#include "crypto/mem.h"
#include "crypto/pfx.h"
#include "crypto/result.h"
#include "crypto/schedule.h"
#include "crypto/secret.h"

enum pfx_role { PFX_ROLE_ENCRYPTION, PFX_ROLE_USERS, PFX_ROLE_SERVICE, PFX_ROLE_LOG, PFX_ROLE_COUNT };
const char *pfx_role_name(enum pfx_role role); /* "encryption", "users", "service", "log" */

enum pfx_tier { PFX_TIER_NONE, PFX_TIER_TRANSIT, PFX_TIER_DIRECT }; /* in rising order */
const char *pfx_tier_name(enum pfx_tier tier);

struct pfx_role_conf {
    char *module;     /* tokens.users.module: absolute path of the PKCS#11 library */
    char *parameters; /* tokens.users.parameters: for C_Initialize (NSS); NULL: none */
    char *uri;        /* tokens.users.token: RFC 7512, with serial or token label; pin-value, pin-source
                       * and slot-id are refused */
    char *pin_file;   /* tokens.users.pin_file: path; a bare name is looked up in
                       * $CREDENTIALS_DIRECTORY. Not allowed for the encryption role. */
    char *attestation; /* tokens.users.attestation: "none", "objects:PATTERN", "attribute:0x...",
                        * "file:/PATH" */
};
struct pfx_app_conf { /* entra.apps[] */
    char *name;       /* entra.apps[].name: default "main" */
    char *client_id;  /* entra.apps[].client_id: GUID */
};
struct pfx_domain_conf { /* users.domains[] */
    char *domain;
};
struct pfx_connector_conf { /* connectors[] */
    char *name;
};
struct pfx_folder_conf { /* sandbox.folders[] */
    char *path;
    int reach; /* sandbox.folders[].access: enum pfx_reach */
};
enum pfx_approvals_mode {
    PFX_APPROVALS_NONE, /* no section: nobody can approve anything */
    PFX_APPROVALS_SSH,
    PFX_APPROVALS_UID, /* for laboratories: no signatures, users of this host count */
};
struct pfx_person_conf { /* approvals.uids[] */
    unsigned uid;
    char *principal;
};
struct pfx_hsm_policy {
    char *host_id;     /* host_id: names this host in the operation log; default the host name */
    char *state_dir;   /* /var/lib/pfx-hsm */
    char *run_dir;     /* /run/pfx-hsm: sockets admin, uploader */
    char *agent_socket; /* /run/pfx-agent/hsm */
    struct pfx_role_conf roles[PFX_ROLE_COUNT];
    char *login_url;   /* entra.url: audience is {url}/{tenant}/oauth2/v2.0/token */
    char *tenant;      /* entra.tenant: GUID */
    bool rs256;        /* entra.algorithm: PS256 (default) or RS256 */
    struct pfx_app_conf *apps;
    size_t n_apps;
    bool key_types[PFX_KEY_TYPE_COUNT]; /* users.key_types: list (default rsa-2048, rsa-3072,
                                         * rsa-4096, ec-p256, ec-p384) */
    struct pfx_domain_conf *domains; /* users.domains: none is any */
    size_t n_domains;
    bool profiles[PFX_PROFILE_COUNT]; /* users.profiles: list of modern, compat (default modern) */
    bool destroys[PFX_PURPOSES]; /* users.after_delivery.PURPOSE: keep (default) or destroy; only
                                       * signing keys can be destroyed */
    bool wrapped_keys;         /* users.keys: token (default) or wrapped */
    enum pfx_tier lowest_tier; /* users.lowest_tier: direct or transit (default transit) */
    char *ca_roots;            /* users.ca_roots: PEM file */
    int64_t max_cert_days;     /* users.max_validity: 825d */
    enum pfx_key_type encryption_type; /* encryption_key.type: rsa-3072 (2048, 4096) */
    char *encryption_name;     /* encryption_key.name: Intune's keyName */
    char *provider_name;       /* encryption_key.provider: the connector's CNG provider */
    enum pfx_hash seal_hash;   /* encryption_key.oaep: sha512 (default), sha384, sha256 */
    struct pfx_period rotate_every; /* encryption_key.rotate_every */
    struct pfx_connector_conf *connectors; /* connectors: hosts that have to confirm a new key */
    size_t n_connectors;
    unsigned per_hour_keys;       /* ceilings.keys_per_hour: 2000 */
    unsigned per_hour_builds;     /* ceilings.builds_per_hour: 4000 */
    unsigned per_hour_assertions; /* ceilings.assertions_per_hour: 240 */
    unsigned per_hour_secrets;    /* ceilings.secrets_per_hour: 240 */
    unsigned per_hour_destroys;   /* ceilings.destroys_per_hour: 2000 */
    unsigned sessions;         /* sessions: operations at the users token at once (default 2, 1 to 32) */
    int64_t call_deadline_ms;  /* call_deadline: a Cryptoki operation that takes longer ends the
                                * process (default 2m) */
    char *log_dir;        /* log.dir: folder of the operation log; default state_dir/log */
    unsigned log_segment_entries; /* log.segment_entries: 65536, a multiple of 256 */
    unsigned log_reserve_kib;     /* log.reserve: KiB kept free for refusals, stop and recovery */
    int64_t log_keep_days;        /* log.keep: 0 (for ever) or at least 730d */
    unsigned log_anchor_entries;  /* log.anchor_entries: 10000 */
    int64_t log_anchor_every_ms;  /* log.anchor_every: 1h */
    bool network_hsm;     /* sandbox.profile: local (default) or network-hsm */
    bool late_libraries;  /* sandbox.late_libraries: refused (default) or allowed */
    enum pfx_secret_memory secret_memory; /* sandbox.secret_memory: auto, locked, memfd_secret */
    struct pfx_folder_conf *folders; /* sandbox.folders */
    size_t n_folders;
    enum pfx_approvals_mode approvals; /* approvals.mode */
    char *roster;                 /* approvals.roster: allowed-signers file */
    unsigned approvers;           /* approvals.needed: 2 */
    int64_t approvals_valid_ms;   /* approvals.valid: 1h */
    struct pfx_person_conf *people; /* approvals.uids */
    size_t n_people;
    char *agent_user;     /* access.agent_user: owner of the socket that it connects to must be this */
    char *uploader_user;  /* access.uploader_user */
    char *admins_group;   /* access.admins: may use the admin socket; NULL: root and own uid */
    char *auditors_group; /* access.auditors: may read the log's folder; NULL: own group */
    uint8_t sha256[32];   /* of the file's bytes */
    struct pfx_buf text;  /* the file's bytes */
};
PFX_MUST_USE pfx_result pfx_hsm_policy_load(const char *path, struct pfx_hsm_policy **ret_policy,
                                            struct pfx_error *err);
/* The same from its bytes; name is for messages. */
PFX_MUST_USE pfx_result pfx_hsm_policy_parse(const char *name, struct pfx_bytes text,
                                             struct pfx_hsm_policy **ret_policy,
                                             struct pfx_error *err);
void pfx_hsm_policy_free(struct pfx_hsm_policy *policy);

#endif
