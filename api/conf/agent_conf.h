/* /etc/pfx-agent/agent.yaml: what pfx-agentd decides by. Paths of the options are the names in the
 * comments; `pfx-agent config example agent` prints the whole table. */
#ifndef PFX_CONF_AGENT_CONF_H
#define PFX_CONF_AGENT_CONF_H

#include "crypto/key.h"
#include "crypto/pfx.h"
#include "crypto/result.h"

enum pfx_on_revoked { PFX_REVOKED_TELL, PFX_REVOKED_REMOVE, PFX_REVOKED_ENROL_AGAIN };

struct pfx_field_conf { /* rules[].custom_fields[] */
    int64_t id;         /* DigiCert's metadata_id */
    char *value;
};
struct pfx_rule_conf {       /* rules[] */
    char *name;              /* rules[].name: [a-z0-9-], unique */
    char *group;             /* rules[].group: object id */
    char *product;           /* rules[].product: see api/conf/product.h */
    int64_t organization;    /* rules[].organization: id at DigiCert; 0: none */
    enum pfx_purpose purpose; /* rules[].purpose: signing, encryption, dual (default signing) */
    enum pfx_purpose intune; /* rules[].intune: signing or encryption, what Intune's record says; a
                              * choice for dual only (one record for each thumbprint; default
                              * signing), else it is the purpose */
    int years, days;         /* rules[].validity: 1y, 2y or 1d to 824d (default 1y); one of both is 0 */
    enum pfx_key_type key_type; /* rules[].key (default rsa-2048) */
    enum pfx_profile profile;   /* rules[].profile (default modern) */
    char *profile_type;      /* rules[].profile_type: strict, multipurpose; default by product; NULL
                              * where the product has none */
    char *common_name_indicator; /* rules[].common_name: email_address, given_name_surname, pseudonym,
                                  * organization_name; default by product; NULL: none */
    bool client_auth;        /* rules[].client_auth (default false): additional usage */
    bool non_repudiation;    /* rules[].non_repudiation (default false): additional usage */
    struct pfx_field_conf *fields; /* rules[].custom_fields */
    size_t n_fields;
    char *comment;           /* rules[].comment; NULL: none */
    bool renewal;            /* rules[].renewal (default false): renewal_of_order_id is sent */
    enum pfx_on_revoked on_revoked; /* rules[].on_revoked: tell, remove, enrol_again (tell) */
    bool shared_mailboxes;   /* rules[].shared_mailboxes (default false) */
    char *payment_method;    /* rules[].payment: profile, balance (default: NULL, the account's own) */
    unsigned line;           /* in the file */
};

struct pfx_agent_conf {
    char *state_dir; /* /var/lib/pfx-agent */
    char *run_dir;   /* /run/pfx-agent: sockets cli, hsm, uploader */
    struct pfx_rule_conf *rules;
    size_t n_rules;
    int64_t renew_before_ms;         /* renew_before: 30d */
    unsigned max_orders_per_pass;    /* 50 */
    unsigned max_orders_per_day;     /* 200 */
    int64_t pass_every_ms;           /* schedule.pass_every: 6h; 0 ("never"): by command only */
    int64_t records_every_ms;        /* schedule.records_every: 1d; Intune's list is read this often */
    int64_t poll_every_ms;           /* schedule.poll_every: 5m */
    int64_t sweep_every_ms;          /* schedule.sweep_every: 1d; the same while nothing is pending */
    int64_t mailboxes_every_ms;      /* schedule.mailboxes_every: 1d */
    int64_t validation_every_ms;     /* schedule.validation_every: 30m: unvalidated addresses of an order */
    int64_t settle_grace_ms;         /* schedule.settle_grace: 15m: a lost order is looked for this long */
    int64_t retry_min_ms;            /* schedule.retry_min: 5s: first back-off, doubles */
    int64_t retry_max_ms;            /* schedule.retry_max: 1h */
    int64_t reorder_after_ms;        /* schedule.reorder_after: 7d: after an order ended without a
                                      * certificate; doubles with each attempt, at most 90 days */
    char *transliteration;           /* names.transliteration: ICU id, default
                                      * "Any-Latin; de-ASCII; Latin-ASCII" */
    /* who may connect: names; NULL means root and the daemon's own uid only */
    char *operators_group; /* access.operators */
    char *auditors_group;  /* access.auditors: status and lists only */
    char *hsm_user;        /* access.hsm_user */
    char *uploader_user;   /* access.uploader_user */
};
/* USAGE with "file:line: option: what is expected" for the first mistake. */
PFX_MUST_USE pfx_result pfx_agent_conf_load(const char *path, struct pfx_agent_conf **ret_conf,
                                            struct pfx_error *err);
void pfx_agent_conf_free(struct pfx_agent_conf *conf);

#endif
