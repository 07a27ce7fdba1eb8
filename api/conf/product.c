#include "api/conf/product.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "crypto/encode.h"
#include "crypto/mem.h"

#define BOTH "strict|multipurpose"
#define OF_A_PERSON "given_name_surname|pseudonym"

/* Since July 2025 the three public client_ products want common_name_indicator and individual, and
 * they and class1_smime get the multipurpose profile whatever is asked. class1_smime takes no
 * common name: it becomes the first address. client_authentication_plus takes nothing else. */
static const struct pfx_product products[] = {
    {.name = "secure_email_mailbox", .ca = "digicert", .profile_types = BOTH},
    {.name = "secure_email_sponsor", .ca = "digicert", .organization = PFX_NEED_MUST,
     .indicator = PFX_NEED_MUST, .individual = true, .profile_types = BOTH,
     .indicators = "email_address|" OF_A_PERSON, .default_indicator = "given_name_surname"},
    {.name = "secure_email_organization", .ca = "digicert", .organization = PFX_NEED_MUST,
     .indicator = PFX_NEED_MUST, .profile_types = BOTH,
     .indicators = "email_address|organization_name", .default_indicator = "organization_name"},
    {.name = "client_premium", .ca = "digicert", .legacy = true, .organization = PFX_NEED_MUST,
     .indicator = PFX_NEED_MUST, .individual = true, .common_name = PFX_NEED_MAY,
     .profile_types = "multipurpose", .indicators = OF_A_PERSON,
     .default_indicator = "given_name_surname"},
    {.name = "client_digital_signature_plus", .ca = "digicert", .legacy = true,
     .organization = PFX_NEED_MUST, .indicator = PFX_NEED_MUST, .individual = true,
     .common_name = PFX_NEED_MAY, .profile_types = "multipurpose", .indicators = OF_A_PERSON,
     .default_indicator = "given_name_surname"},
    {.name = "client_email_security_plus", .ca = "digicert", .legacy = true,
     .organization = PFX_NEED_MUST, .indicator = PFX_NEED_MUST, .individual = true,
     .common_name = PFX_NEED_MAY, .profile_types = "multipurpose", .indicators = OF_A_PERSON,
     .default_indicator = "given_name_surname"},
    {.name = "client_authentication_plus", .ca = "digicert", .legacy = true,
     .organization = PFX_NEED_MUST, .common_name = PFX_NEED_MUST,
     .profile_types = "multipurpose|strict"},
    {.name = "class1_smime", .ca = "digicert", .legacy = true, .profile_types = "multipurpose"},
    {.name = "internal", .ca = "cmp"},
};

const struct pfx_product *pfx_product_find(const char *name)
{
    for (size_t i = 0; i < sizeof(products) / sizeof(products[0]); i++)
        if (strcmp(products[i].name, name) == 0)
            return &products[i];
    return NULL;
}

bool pfx_product_allows(const char *choices, const char *word)
{
    size_t len = strlen(word);
    for (size_t n; choices && len > 0; choices += n + 1) {
        n = strcspn(choices, "|");
        if (n == len && memcmp(choices, word, n) == 0)
            return true;
        if (!choices[n])
            break;
    }
    return false;
}

struct pfx_cmp_order pfx_cmp_order_of(const char *token)
{
    struct pfx_cmp_order order;
    char text[64];
    uint8_t hash[32];
    uint64_t id = 0;
    snprintf(text, sizeof text, "pfx-agent cmp %s", token);
    for (char *c = text; *c; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c + ('a' - 'A'));
    if (!pfx_sha256(text, strlen(text), hash))
        pfx_die("OpenSSL has no SHA-256.");
    memcpy(order.transaction, hash, sizeof order.transaction);
    for (size_t i = 16; i < 24; i++)
        id = id << 8 | hash[i];
    id &= ((uint64_t)1 << 52) - 1; /* what a JSON number holds exactly */
    order.id = id > 0 ? (int64_t)id : 1;
    return order;
}
