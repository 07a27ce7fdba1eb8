#include "api/uploader/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/uploader/json.h"
#include "api/uploader/text.h"
#include "api/uploader/url.h"
#include "crypto/encode.h"

#define MAX_KEY 4096

bool pfx_identity_is_url(const char *url)
{
    static const char *const bases[] = {PFX_IDENTITY_VM, PFX_IDENTITY_ARC};
    for (size_t i = 0; i < sizeof bases / sizeof bases[0]; i++) {
        size_t len = strlen(bases[i]);
        if (strncmp(url, bases[i], len) == 0 && url[len] == '?')
            return true;
    }
    return false;
}

char *pfx_identity_url(const struct pfx_uploader_conf *conf, const char *resource)
{
    bool arc = conf->sign_in == PFX_SIGN_IN_AZURE_ARC;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf url = pfx_buf_make(2048);
    pfx_buf_add_str(&url, arc ? PFX_IDENTITY_ARC "?api-version=2020-06-01&resource="
                              : PFX_IDENTITY_VM "?api-version=2018-02-01&resource=");
    pfx_url_encode(&url, resource);
    if (!arc && conf->identity) {
        pfx_buf_add_str(&url, "&client_id=");
        pfx_url_encode(&url, conf->identity);
    }
    return pfx_strdup(pfx_buf_str(&url));
}

static bool is_key_name(const char *name)
{
    size_t len = strlen(name);
    return len > 4 && len < 200 && name[0] != '.' && strcmp(name + len - 4, ".key") == 0 &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == len;
}

pfx_result pfx_identity_challenge(const char *header, char **ret_name, struct pfx_error *err)
{
    static const char scheme[] = "Basic realm=";
    char path[320];
    size_t skip = strlen(scheme);
    if (strncasecmp(header, scheme, skip) != 0)
        return pfx_fail(err, PFX_CLASS_REFUSED, "sign in", PFX_IDENTITY_ARC, "HTTP 401",
                        "The Azure Arc agent asks for something else than a file of its own. Is it "
                        "azcmagent that listens there?");
    snprintf(path, sizeof path, "%s", header + skip);
    size_t len = strlen(path);
    char *start = path;
    if (len >= 2 && path[0] == '"' && path[len - 1] == '"') {
        path[len - 1] = '\0';
        start = path + 1;
    }
    size_t folder = strlen(PFX_IDENTITY_KEYS "/");
    if (strncmp(start, PFX_IDENTITY_KEYS "/", folder) != 0 || !is_key_name(start + folder)) {
        char shown[160];
        return pfx_fail(err, PFX_CLASS_REFUSED, "sign in",
                        pfx_text_clean_str(shown, sizeof shown, start), "",
                        "The Azure Arc agent points to a file that isn't a .key file directly in "
                        PFX_IDENTITY_KEYS ". It isn't read: whoever listens at 127.0.0.1:40342 may "
                        "not be azcmagent.");
    }
    *ret_name = pfx_strdup(start + folder);
    return PFX_OK;
}

static pfx_result unreadable(const char *path, int number, struct pfx_error *err)
{
    const char *next = number == EACCES || number == EPERM
                           ? "Add the user of pfx-uploader to the group himds."
                       : number == ELOOP ? "It is a link; those aren't followed."
                       : number == ENOTDIR
                           ? "Its folder isn't one; links aren't followed."
                           : "Is azcmagent running (azcmagent show)?";
    return pfx_fail(err, PFX_CLASS_REFUSED, "sign in", path, strerrorname_np(number),
                    "The file to which the Azure Arc agent points can't be opened: %s. %s",
                    strerrordesc_np(number), next);
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

pfx_result pfx_identity_key(const char *name, struct pfx_secret **ret_key, struct pfx_error *err)
{
    char path[300];
    snprintf(path, sizeof path, PFX_IDENTITY_KEYS "/%s", name);
    PFX_CLEANUP(close_fd) int folder =
        open(PFX_IDENTITY_KEYS, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0)
        return unreadable(path, errno, err);
    /* Not blocking: a pipe in its place mustn't hold the program. */
    PFX_CLEANUP(close_fd) int fd =
        openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return unreadable(path, errno, err);
    struct stat st;
    if (fstat(fd, &st) != 0)
        return unreadable(path, errno, err);
    if (!S_ISREG(st.st_mode) || st.st_size < 1 || st.st_size > MAX_KEY)
        return pfx_fail(err, PFX_CLASS_REFUSED, "sign in", path, "",
                        "The file to which the Azure Arc agent points isn't a regular file of 1 to "
                        "%d bytes; it isn't read.", MAX_KEY);
    PFX_AUTOSECRET struct pfx_secret *key = NULL;
    PFX_TRY(pfx_secret_read_fd(fd, MAX_KEY, "the Azure Arc agent's file", &key, err));
    const char *text = (const char *)pfx_secret_bytes(key);
    size_t len = pfx_secret_len(key);
    if (!pfx_ascii_printable(text, len) || memchr(text, ' ', len))
        return pfx_fail(err, PFX_CLASS_REFUSED, "sign in", path, "",
                        "The file to which the Azure Arc agent points holds characters that can't "
                        "stand in a header.");
    *ret_key = PFX_TAKE(key);
    return PFX_OK;
}

enum pfx_class pfx_identity_class(const struct pfx_answer *answer, enum pfx_class judged)
{
    bool again = answer->status == 404 || answer->status == 410 || answer->status == 429 ||
                 answer->status >= 500;
    return answer->curl_code == 0 && again ? PFX_CLASS_TRANSIENT : judged;
}

static const char *advice(const struct pfx_answer *answer, const char *message)
{
    bool arc = strncmp(answer->url, PFX_IDENTITY_ARC, strlen(PFX_IDENTITY_ARC)) == 0;
    if (message && strcasestr(message, "identity not found"))
        return "This machine has no managed identity, or not the one of entra.identity: assign it "
               "(az vm identity assign), or mend entra.identity in uploader.yaml.";
    if (answer->status == 401 || answer->status == 403)
        return arc ? "azcmagent doesn't take the content of its file: run azcmagent check."
                   : "The metadata service refuses; is it asked through a proxy or a container's "
                     "network?";
    if (answer->status == 400)
        return "Check entra.identity, entra.cloud and graph.url in uploader.yaml.";
    if (answer->status == 404 || answer->status == 410)
        return "The service is being updated and is asked again; if it stays, this machine may not "
               "be what entra.sign_in in uploader.yaml says.";
    return "";
}

void pfx_identity_explain(const struct pfx_answer *answer, struct pfx_told *told)
{
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    char why[160];
    const char *message = NULL;
    if (pfx_doc_parse(answer->body, &doc, why)) {
        const cJSON *root = pfx_doc_root(&doc);
        pfx_text_clean_str(told->code, sizeof told->code,
                           pfx_doc_str(&doc, root, "error", PFX_DOC_MAY));
        message = pfx_doc_str(&doc, root, "error_description", PFX_DOC_MAY);
        pfx_text_clean_str(told->message, sizeof told->message, message);
    }
    snprintf(told->next, sizeof told->next, "%s", advice(answer, message));
}
