/*
 * Secrets from the terminal or a file descriptor. The echo comes back whatever ends or stops the
 * program: tcsetattr is safe in a signal handler (POSIX.1, section 2.4.3).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "agent/cli/cli.h"

static struct {
    volatile sig_atomic_t fd;
    struct termios normal, silent;
} tty = {.fd = -1};

static const int caught[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGALRM};
#define N_CAUGHT (sizeof(caught) / sizeof(caught[0]))

static void on_signal(int number)
{
    int saved = errno;
    int fd = tty.fd;
    if (fd >= 0)
        (void)tcsetattr(fd, TCSAFLUSH, &tty.normal);
    if (number == SIGTSTP) {
        (void)raise(SIGSTOP);
        /* back in the foreground */
        if (fd >= 0) {
            (void)tcsetattr(fd, TCSAFLUSH, &tty.silent);
            static const char hint[] = "\r\n(still waiting for it)\r\n";
            (void)!write(fd, hint, sizeof(hint) - 1);
        }
        errno = saved;
        return;
    }
    (void)signal(number, SIG_DFL);
    (void)raise(number); /* delivered when the handler returns */
    errno = saved;
}

static pfx_result from_terminal(const char *prompt, const char *what, size_t max,
                                struct pfx_secret **ret_secret, struct pfx_error *err)
{
    int fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "",
                        "there is no terminal to ask for %s on; give it on a file descriptor "
                        "instead (a PIN: --pin-fd N; a secret to set: --fd N)",
                        what);
    if (tcgetattr(fd, &tty.normal) != 0) {
        int failed = errno;
        (void)close(fd);
        return pfx_fail_errno(err, failed, "read", "/dev/tty", "use a file descriptor instead");
    }
    tty.silent = tty.normal;
    tty.silent.c_lflag &= ~(tcflag_t)(ECHO | ECHOE | ECHOK);
    tty.silent.c_lflag |= ECHONL | ICANON;

    struct sigaction ours = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, old[N_CAUGHT];
    (void)sigemptyset(&ours.sa_mask);
    tty.fd = fd;
    for (size_t i = 0; i < N_CAUGHT; i++)
        (void)sigaction(caught[i], &ours, &old[i]);
    pfx_result r;
    if (tcsetattr(fd, TCSAFLUSH, &tty.silent) != 0)
        r = pfx_fail_errno(err, errno, "read", "/dev/tty", "use a file descriptor instead");
    else {
        (void)!write(fd, prompt, strlen(prompt));
        r = pfx_secret_read_fd(fd, max, what, ret_secret, err);
        (void)tcsetattr(fd, TCSAFLUSH, &tty.normal);
    }
    tty.fd = -1;
    for (size_t i = 0; i < N_CAUGHT; i++)
        (void)sigaction(caught[i], &old[i], NULL);
    (void)close(fd);
    return r;
}

pfx_result cli_secret_read(int fd, const char *prompt, const char *what, size_t max,
                           struct pfx_secret **ret_secret, struct pfx_error *err)
{
    if (fd < 0)
        return from_terminal(prompt, what, max, ret_secret, err);
    if (fcntl(fd, F_GETFD) < 0)
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "EBADF",
                        "file descriptor %d isn't open; the shell opens one like this: "
                        "pfx-agent ... %d< FILE",
                        fd, fd);
    return pfx_secret_read_fd(fd, max, what, ret_secret, err);
}

pfx_result cli_secret_put(struct pfx_msg *msg, const char *member, const struct pfx_secret *secret,
                          struct pfx_error *err)
{
    size_t len = pfx_secret_len(secret);
    if (memchr(pfx_secret_bytes(secret), '\0', len))
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "",
                        "the secret has a NUL byte in it: that isn't text");
    /* The messages take C strings; the copy with its NUL lies in locked memory, too. */
    struct pfx_secret *text PFX_AUTOSECRET = NULL;
    PFX_TRY(pfx_secret_new(len + 1, &text, err));
    memcpy(pfx_secret_data(text), pfx_secret_bytes(secret), len);
    pfx_msg_set_str(msg, member, (const char *)pfx_secret_bytes(text));
    return PFX_OK;
}
