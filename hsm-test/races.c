/* Linked into every program of a ThreadSanitizer build: what it passes over. It is compiled in
 * because a program whose sandbox is shut can't read a file of suppressions. */

const char *__tsan_default_suppressions(void);

/* Other people's libraries: */
const char *__tsan_default_suppressions(void)
{
    /* NSS's database: SQLite takes the mutexes of its allocator and of its list in either order. */
    return "deadlock:libsqlite3.so\n"
           /* C_GetTokenInfo calls gmtime, whose result every thread shares. */
           "race:libsofthsm2.so\n";
}
