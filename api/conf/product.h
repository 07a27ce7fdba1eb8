/* What can be ordered: one row for each product, with what it needs. Pure. */
#ifndef PFX_CONF_PRODUCT_H
#define PFX_CONF_PRODUCT_H

#include <stdbool.h>
#include <stdint.h>

enum pfx_need { PFX_NEED_NO, PFX_NEED_MAY, PFX_NEED_MUST }; /* not taken, may stand, must stand */

struct pfx_product {
    const char *name;         /* DigiCert's name id, or "internal" for a CA of one's own (CMP) */
    const char *ca;           /* "digicert" or "cmp": the `ca` of uploader.yaml that takes it */
    bool legacy;              /* of the older generation */
    enum pfx_need organization;
    enum pfx_need indicator;  /* common_name_indicator */
    bool individual;          /* names a person: first and last name, or a pseudonym */
    enum pfx_need common_name; /* the text itself, as older products take it */
    const char *profile_types; /* "a|b": what can be asked for, the default first; NULL: none */
    const char *indicators;    /* "a|b": what can be asked for; NULL where the product has none */
    const char *default_indicator; /* NULL: none */
};
/* NULL: there is no such product. */
const struct pfx_product *pfx_product_find(const char *name);
/* Is word one of "a|b|c"? False for choices NULL. */
bool pfx_product_allows(const char *choices, const char *word);
/* An order at a CA that speaks CMP and keeps none itself: both ids follow from the order's token. */
struct pfx_cmp_order {
    uint8_t transaction[16];
    int64_t id; /* what pfx-agentd knows it by */
};
/* token: at most 40 characters; upper or lower case is the same. */
struct pfx_cmp_order pfx_cmp_order_of(const char *token);
/* All names with | between, for options and messages. */
#define PFX_PRODUCTS                                                                               \
    "secure_email_mailbox|secure_email_sponsor|secure_email_organization|client_premium|"          \
    "client_digital_signature_plus|client_email_security_plus|client_authentication_plus|"         \
    "class1_smime|internal"

#endif
