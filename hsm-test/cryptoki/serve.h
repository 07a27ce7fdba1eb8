/* An application's process: the real module, and a thread for each connection. */
#ifndef TT_SERVE_H
#define TT_SERVE_H

struct tt_real {
    const char *module;     /* path of the real library */
    const char *parameters; /* NSS's, else NULL */
};

/* app: the connection that says how long the application lives; calls: a listening socket. Never
 * returns. */
_Noreturn void tt_serve(const struct tt_real *real, int app, int calls);

#endif
