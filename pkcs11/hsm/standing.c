/* The standing keys as one table. */
#include "pkcs11/hsm/standing.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "crypto/encode.h"

static const struct row {
    const char *name;
    enum pfx_role role;
    enum pfx_key_use use;
    enum pfx_key_type type;
    bool optional, pair;
    const char *algorithm;
} rows[] = {
    [PFX_STANDING_WRAPPING] = {"wrapping", PFX_ROLE_USERS, PFX_USE_WRAPPING, PFX_KEY_RSA_3072,
                               false, false, "aes-256"},
    [PFX_STANDING_TRANSPORT] = {"kek-transport", PFX_ROLE_USERS, PFX_USE_KEK_TRANSPORT,
                                PFX_KEY_RSA_3072, false, true, "rsa-3072"},
    [PFX_STANDING_MAC] = {"mac", PFX_ROLE_USERS, PFX_USE_MAC, PFX_KEY_RSA_3072, false, false,
                          "hmac-sha256"},
    [PFX_STANDING_SECRETS] = {"secrets", PFX_ROLE_SERVICE, PFX_USE_SECRETS, PFX_KEY_RSA_3072, false,
                              true, "rsa-3072"},
    [PFX_STANDING_LOG] = {"log", PFX_ROLE_LOG, PFX_USE_LOG, PFX_KEY_EC_P256, false, true,
                          "ec-p256"},
    [PFX_STANDING_LOG_ED25519] = {"log-ed25519", PFX_ROLE_LOG, PFX_USE_LOG_ED25519, PFX_KEY_EC_P256,
                                  true, true, "ed25519"},
    [PFX_STANDING_ANCHOR_A] = {"anchor-a", PFX_ROLE_LOG, PFX_USE_ANCHOR, PFX_KEY_RSA_3072, false,
                               false, "none"},
    [PFX_STANDING_ANCHOR_B] = {"anchor-b", PFX_ROLE_LOG, PFX_USE_ANCHOR, PFX_KEY_RSA_3072, false,
                               false, "none"},
    [PFX_STANDING_CLIENT] = {"client", PFX_ROLE_SERVICE, PFX_USE_CLIENT, PFX_KEY_RSA_3072, false,
                             true, "rsa-3072"},
};

/* SHA-256 of the parts with '|' between them, cut to the length of a CKA_ID. Names of apps can't
 * hold a '|' (the policy's own check), so two lists of parts never give the same text. */
static void derive(const char *text, struct pfx_key_id *ret_id)
{
    uint8_t digest[32];
    if (!pfx_sha256(text, strlen(text), digest))
        pfx_die("SHA-256 isn't available");
    memcpy(ret_id->bytes, digest, sizeof ret_id->bytes);
}

size_t pfx_standing_count(const struct pfx_hsm_policy *policy)
{
    return PFX_STANDING_CLIENT + policy->n_apps;
}

/* host: of keys that are this host's own; NULL for the others. */
static void fill(const struct row *row, const char *host, const char *name, unsigned generation,
                 struct pfx_standing_key *key)
{
    *key = (struct pfx_standing_key){.role = row->role,
                                     .use = row->use,
                                     .type = row->type,
                                     .optional = row->optional,
                                     .pair = row->pair};
    key->generation = generation;
    snprintf(key->stem, sizeof key->stem, "%s", name);
    snprintf(key->name, sizeof key->name, "%s-%u", name, generation);
    snprintf(key->label, sizeof key->label, "pfx-agent %s%s%s", host ? host : "", host ? " " : "",
             key->name);
    snprintf(key->algorithm, sizeof key->algorithm, "%s", row->algorithm);
    char *text PFX_AUTOFREE = pfx_asprintf("pfx-agent key v1|%s|%s%s%s|%u",
                                           pfx_key_use_name(row->use), host ? host : "",
                                           host ? "/" : "", name, generation);
    derive(text, &key->id);
}

void pfx_standing_describe(const struct pfx_hsm_policy *policy, size_t index,
                           struct pfx_standing_key *ret_key)
{
    if (pfx_standing_of_log(index))
        pfx_standing_log(policy, index, 1, ret_key);
    else
        pfx_standing_generation(policy, index, 1, ret_key);
}

void pfx_standing_generation(const struct pfx_hsm_policy *policy, size_t index, unsigned generation,
                             struct pfx_standing_key *ret_key)
{
    if (index < PFX_STANDING_CLIENT) {
        fill(&rows[index], NULL, rows[index].name, pfx_standing_rotates(index) ? generation : 1,
             ret_key);
        return;
    }
    char *name PFX_AUTOFREE =
        pfx_asprintf("client-%s", policy->apps[index - PFX_STANDING_CLIENT].name);
    fill(&rows[PFX_STANDING_CLIENT], NULL, name, generation, ret_key);
}

void pfx_standing_log(const struct pfx_hsm_policy *policy, size_t index, unsigned generation,
                      struct pfx_standing_key *ret_key)
{
    bool anchor = index == PFX_STANDING_ANCHOR_A || index == PFX_STANDING_ANCHOR_B;
    fill(&rows[index], policy->host_id, rows[index].name, anchor ? 1 : generation, ret_key);
}

void pfx_standing_encryption(const struct pfx_hsm_policy *policy, unsigned generation,
                             struct pfx_standing_key *ret_key)
{
    struct row row = {"encryption",
                      PFX_ROLE_ENCRYPTION,
                      PFX_USE_ENCRYPTION,
                      policy->encryption_type,
                      false,
                      true,
                      pfx_key_type_name(policy->encryption_type)};
    fill(&row, NULL, row.name, generation, ret_key);
}

void pfx_user_key_id(const char *host_id, const char *user_id, const char *purpose,
                     int64_t enrolment, int64_t attempt, struct pfx_key_id *ret_id)
{
    char *text PFX_AUTOFREE =
        pfx_asprintf("pfx-agent user key v2|%s|%s|%s|%" PRId64 "|%" PRId64, host_id, user_id,
                     purpose, enrolment, attempt);
    derive(text, ret_id);
}

const char *pfx_token_text(const struct pfx_token *token, char buf[128])
{
    const struct pfx_token_facts *facts = pfx_token_facts(token);
    snprintf(buf, 128, "%s (serial %s)", facts->label, facts->serial);
    return buf;
}
