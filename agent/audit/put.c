/* Files that pfx-audit writes: what an auditor keeps is never overwritten. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "agent/audit/audit.h"

pfx_result pfx_audit_put(const char *path, struct pfx_bytes data, struct pfx_error *err)
{
    struct pfx_buf now PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(data.len + 1);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0 && errno == EEXIST) {
        struct pfx_error none = PFX_ERROR_NONE;
        if (pfx_ok(pfx_audit_file(path, data.len + 1, &now, &none)) &&
            now.len == data.len && memcmp(now.data, data.data, data.len) == 0)
            return PFX_OK;
        return pfx_fail(err, PFX_CLASS_USAGE, "write", path, "EEXIST",
                        "another file is there already, and isn't overwritten: choose another "
                        "name");
    }
    if (fd < 0)
        return pfx_fail_errno(err, errno, "write", path, "choose another place");
    for (size_t at = 0; at < data.len;) {
        ssize_t n = write(fd, data.data + at, data.len - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            pfx_result r = pfx_fail_errno(err, errno, "write", path, "make room");
            (void)close(fd);
            (void)unlink(path); /* made by this call: half a file helps nobody */
            return r;
        }
        at += (size_t)n;
    }
    if (close(fd) != 0)
        return pfx_fail_errno(err, errno, "write", path, "make room");
    return PFX_OK;
}
