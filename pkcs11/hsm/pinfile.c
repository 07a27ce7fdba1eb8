/* PINs out of credential files. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crypto/secret.h"
#include "pkcs11/hsm/roles.h"

#define MAX_PIN 255

static void close_fd(const int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

pfx_result pfx_pin_file_read(const char *pin_file, struct pfx_secret **ret_pin,
                             struct pfx_error *err)
{
    bool credential = strchr(pin_file, '/') == NULL;
    const char *folder = secure_getenv("CREDENTIALS_DIRECTORY");
    if (credential && !folder)
        return pfx_fail(
            err, PFX_CLASS_USAGE, "read PIN", pin_file, "",
            "It is a bare name, which is looked up in $CREDENTIALS_DIRECTORY, and that "
            "isn't set: use LoadCredential= in the unit, or a whole path in the policy.");
    char *path PFX_AUTOFREE =
        credential ? pfx_asprintf("%s/%s", folder, pin_file) : pfx_strdup(pin_file);
    PFX_CLEANUP(close_fd)
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return pfx_fail_errno(
            err, errno, "open PIN file", path,
            credential ? "systemd gave no such credential at the start: make it (systemd-creds "
                         "encrypt) where LoadCredentialEncrypted= of the unit says, and restart "
                         "the unit."
                       : "Make it with the token's user PIN as its only line.");
    struct stat st;
    if (fstat(fd, &st) < 0)
        return pfx_fail_errno(err, errno, "look at PIN file", path, "");
    /* systemd gives a credential to a unit's user by an ACL, whose mask shows as the group's read
     * bit; its folder is closed to everybody else. */
    mode_t forbidden = credential ? 037 : 077;
    if (!S_ISREG(st.st_mode) || (st.st_mode & forbidden) ||
        (st.st_uid != 0 && st.st_uid != geteuid()))
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "look at PIN file", path, "",
                        "It must be a regular file of root or of uid %u that nobody else can read "
                        "(mode 0400), and has mode %04o and uid %u.",
                        (unsigned)geteuid(), (unsigned)(st.st_mode & 07777), (unsigned)st.st_uid);
    return pfx_secret_read_fd(fd, MAX_PIN, path, ret_pin, err);
}
