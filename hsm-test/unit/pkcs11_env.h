/* Real tokens for the pkcs11_*.c tests: SoftHSM tokens and an NSS database in a folder of their
 * own, and a count of every C_* call. */
#ifndef PFX_PKCS11_ENV_H
#define PFX_PKCS11_ENV_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "crypto/mem.h"
#include "pkcs11/probe.h"

#define assert_ok(expr, error)                                                                     \
    do {                                                                                           \
        pfx_result r_ = (expr);                                                                    \
        if (pfx_failed(r_)) {                                                                      \
            char line_[1024];                                                                      \
            fail_msg("%s", pfx_error_line((error), line_, sizeof line_));                          \
        }                                                                                          \
    } while (0)
#define assert_class(expr, want) assert_int_equal((expr).cls, (want))
#define assert_text(error, part)                                                                   \
    do {                                                                                           \
        if (!strstr((error)->text, (part)))                                                        \
            fail_msg("\"%s\" isn't in \"%s\"", (part), (error)->text);                             \
    } while (0)
#define ERROR(name) struct pfx_error name = PFX_ERROR_NONE

#define ENV_PIN "4711pfx"

enum env_module { ENV_SOFTHSM, ENV_NSS, ENV_MODULES };
/* What each token can do, so that one test runs on both. */
struct env_can {
    const char *name;
    bool direct, ed25519, oaep_sha512, locks_by_flag, allowed_mechanisms;
    bool keeps_doubles; /* NSS: a second key with the same CKA_ID takes the first one's place */
    const char *label;
};
extern const struct env_can env_can[ENV_MODULES];

/* cmocka group setup: makes the folder, two SoftHSM tokens "one" and "two", and the NSS database.
 */
int env_setup(void **state);
int env_teardown(void **state);
bool env_has(
    enum env_module module); /* prints "skipped" and the module's name where it is missing */
const char *env_folder(void);
struct pfx_role_conf env_conf(enum env_module module, const char *uri);
/* A further SoftHSM token with this label; the module must not be in use. */
void env_softhsm_token(const char *label);
/* The folder of SoftHSM's token with this label. */
char *env_softhsm_folder(const char *label);
/* The name of the one file in a folder. */
char *env_only_file(const char *path);

/* Opened and logged in, for this role. */
struct pfx_token *env_open(enum env_module module, enum pfx_role role, unsigned sessions);
struct pfx_token *env_open_uri(enum env_module module, enum pfx_role role, const char *uri,
                               unsigned sessions);
void env_login(struct pfx_token *token);
struct pfx_pin_guard *env_guard(void);
struct pfx_secret *env_secret(const char *text);
struct pfx_key_id env_id(unsigned n);

/* How often a function was called since env_count_reset. */
void env_count_reset(void);
unsigned env_count(const char *function);
/* Called at each entry, when set. */
extern void (*env_at_call)(const char *function);
/* All objects that a session sees. */
size_t env_objects(struct pfx_session *session);
/* A raw call in the session's token, for what the library never does. */
CK_RV env_set_bool(struct pfx_session *session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type,
                   bool value);

#endif
