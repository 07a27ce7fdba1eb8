/* The shared state: made, freed, and asked whether its roles are ready. */
#include "pkcs11/hsm/hsm.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/conf/process.h"
#include "pkcs11/hsm/approvals.h"
#include "pkcs11/hsm/confine.h"
#include "pkcs11/hsm/force.h"
#include "pkcs11/hsm/hsmlog.h"
#include "pkcs11/hsm/rotation.h"

#define MAX_ROOTS_FILE (1024 * 1024)

/* Whoever can write here can't forge a pin (it has a MAC), but can take it away or bring back an
 * older one. */
static pfx_result state_dir_check(const char *path, struct pfx_error *err)
{
    struct stat st;
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return pfx_fail_errno(
            err, errno, "make state folder", path,
            "Make it yourself, for the user that pfx-hsm runs as, with mode 0700.");
    if (lstat(path, &st) < 0)
        return pfx_fail_errno(err, errno, "look at state folder", path, "");
    if (!S_ISDIR(st.st_mode))
        return pfx_fail(err, PFX_CLASS_USAGE, "look at state folder", path, "",
                        "It isn't a folder: correct state_dir in the policy.");
    if (st.st_uid != geteuid() || (st.st_mode & 022))
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "look at state folder", path, "",
                        "It must belong to the user that pfx-hsm runs as (uid %u), and nobody else "
                        "may write to it (mode 0700).",
                        (unsigned)geteuid());
    return PFX_OK;
}

/* Auditors have to get through to the log's folder and the ceremonies', and see nothing on the way:
 * the other files are 0600 each. */
static pfx_result state_dir_open(const struct pfx_hsm_policy *policy, struct pfx_error *err)
{
    struct stat st;
    if (stat(policy->state_dir, &st) < 0)
        return pfx_fail_errno(err, errno, "look at state folder", policy->state_dir, "");
    mode_t mode = st.st_mode & 07777;
    if (policy->auditors_group)
        mode |= 0011;
    else if (mode == 0711)
        mode = 0700;
    if (mode != (st.st_mode & 07777) && chmod(policy->state_dir, mode) < 0)
        return pfx_fail_errno(err, errno, "open state folder", policy->state_dir,
                              "Auditors are let through to the operation log.");
    return PFX_OK;
}

pfx_result pfx_hsm_folders(const struct pfx_hsm_policy *policy, struct pfx_error *err)
{
    PFX_TRY(state_dir_check(policy->state_dir, err));
    return state_dir_open(policy, err);
}

static pfx_result roots_read(const char *path, struct pfx_certs **ret_roots, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(MAX_ROOTS_FILE);
    PFX_TRY(pfx_file_read_trusted(path, MAX_ROOTS_FILE, &text, err));
    return pfx_certs_parse(pfx_buf_bytes(&text), ret_roots, err);
}

pfx_result pfx_hsm_new(const struct pfx_hsm_policy *policy, struct pfx_force *force,
                       struct pfx_hsm **ret_hsm, struct pfx_error *err)
{
    if (policy->n_apps > PFX_APPS_MAX)
        return pfx_fail(err, PFX_CLASS_USAGE, "read policy", "entra.apps", "",
                        "At most %d app registrations are possible.", PFX_APPS_MAX);
    PFX_CLEANUP(pfx_hsm_freep) struct pfx_hsm *hsm = pfx_alloc(sizeof *hsm);
    hsm->policy = policy;
    hsm->force = force;
    hsm->started_ms = pfx_now_ms();
    hsm->log_generation = 1;
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
    /* Without this an opening waits for as long as any operation runs. */
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&hsm->lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    (void)sem_init(&hsm->lanes, 0, policy->sessions);
    pthread_mutex_init(&hsm->small, NULL);
    pfx_ceilings_init(&hsm->ceilings);
    for (size_t i = 0; i < PFX_STANDING_MAX; i++)
        hsm->standing_spki[i] = pfx_buf_make(4096);
    pfx_rotation_init(hsm);
    for (enum pfx_role role = 0; role < PFX_ROLE_COUNT; role++) {
        struct pfx_role_state *state = &hsm->roles[role];
        state->again = role != PFX_ROLE_ENCRYPTION;
        pfx_result starting =
            pfx_fail(&state->why, PFX_CLASS_TRANSIENT, "open token", pfx_role_name(role), "",
                     "pfx-hsm is still starting: try again.");
        (void)starting;
    }
    PFX_TRY(roots_read(policy->ca_roots, &hsm->roots, err));
    char *guard_dir PFX_AUTOFREE = pfx_hsm_path(hsm, "pin-guard");
    if (mkdir(guard_dir, 0700) < 0 && errno != EEXIST)
        return pfx_fail_errno(err, errno, "make folder", guard_dir, "");
    PFX_TRY(pfx_pin_guard_open(guard_dir, &hsm->guard, err));
    PFX_TRY(pfx_approvals_new(policy, pfx_buf_bytes(&force->roster), &hsm->approvals, err));
    PFX_TRY(pfx_hsmlog_new(hsm, &hsm->log, err));
    pfx_approvals_load(hsm);
    *ret_hsm = PFX_TAKE(hsm);
    return PFX_OK;
}

void pfx_hsm_free(struct pfx_hsm *hsm)
{
    if (!hsm)
        return;
    pfx_hsmlog_stop(hsm);
    for (enum pfx_role role = 0; role < PFX_ROLE_COUNT; role++) {
        if (hsm->roles[role].token) {
            pfx_token_logout(hsm->roles[role].token, role);
            pfx_token_close(hsm->roles[role].token);
        }
        free(hsm->roles[role].probe);
    }
    for (size_t i = 0; i < PFX_STANDING_MAX; i++)
        pfx_buf_done(&hsm->standing_spki[i]);
    for (size_t i = 0; i < PFX_APPS_MAX; i++)
        free(hsm->apps[i].pem);
    free(hsm->rotation);
    pfx_confine_release();
    pfx_hsmlog_free(hsm->log);
    pfx_approvals_free(hsm->approvals);
    pfx_pin_guard_free(hsm->guard);
    pfx_certs_free(hsm->roots);
    pfx_ceilings_done(&hsm->ceilings);
    pthread_rwlock_destroy(&hsm->lock);
    pthread_mutex_destroy(&hsm->small);
    sem_destroy(&hsm->lanes);
    free(hsm);
}

char *pfx_hsm_path(const struct pfx_hsm *hsm, const char *name)
{
    return pfx_asprintf("%s/%s", hsm->policy->state_dir, name);
}

void pfx_hsm_standing(const struct pfx_hsm *hsm, size_t index, struct pfx_standing_key *ret_key)
{
    if (pfx_standing_of_log(index))
        pfx_standing_log(hsm->policy, index, hsm->log_generation, ret_key);
    else
        pfx_standing_generation(hsm->policy, index, hsm->generations[index], ret_key);
}

/* The role to tell of: one that can't be opened comes before one that has no keys yet, since `init`
 * needs it, too. */
static const struct pfx_role_state *unready(const struct pfx_hsm *hsm, unsigned roles)
{
    const struct pfx_role_state *found = NULL;
    for (enum pfx_role role = 0; role < PFX_ROLE_COUNT; role++) {
        const struct pfx_role_state *state = &hsm->roles[role];
        if ((roles & PFX_NEEDS(role)) && state->phase != PFX_ROLE_READY &&
            (!found || (found->no_keys && !state->no_keys)))
            found = state;
    }
    return found;
}

pfx_result pfx_hsm_needs(const struct pfx_hsm *hsm, unsigned roles, struct pfx_error *err)
{
    const struct pfx_role_state *state = unready(hsm, roles);
    if (!state)
        return PFX_OK;
    /* What a person has to mend holds up every user alike: none of them may be given up for it.
     * What isn't as it must be stays what it is. */
    enum pfx_class cls = state->why.cls;
    if (cls != PFX_CLASS_INTEGRITY && cls != PFX_CLASS_DEVICE)
        cls = PFX_CLASS_TRANSIENT;
    if (err && err->cls == PFX_CLASS_OK) {
        *err = state->why;
        err->cls = cls;
    }
    return (pfx_result){cls};
}

pfx_result pfx_reclass(pfx_result result, enum pfx_class from, enum pfx_class to,
                       struct pfx_error *err)
{
    if (result.cls != from)
        return result;
    if (err)
        err->cls = to;
    return (pfx_result){to};
}
