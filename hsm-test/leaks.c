/* Linked into every program of a sanitizer build: what the leak checker passes over, without a
 * word. It is compiled in because a program whose sandbox is shut can't read a file of
 * suppressions. */

const char *__asan_default_options(void);
const char *__lsan_default_options(void);
const char *__lsan_default_suppressions(void);

/* clang's runtime starts another program for the names of functions, which is what a sandbox kills
 * for: run.sh looks them up afterwards. */
const char *__asan_default_options(void)
{
#ifdef __clang__
    return "symbolize=0";
#else
    return "";
#endif
}

const char *__lsan_default_options(void)
{
    return "print_suppressions=0";
}

/* Other people's libraries, which keep what they allocate until the process ends. */
const char *__lsan_default_suppressions(void)
{
    return "leak:libsofthsm2.so\n"
           "leak:libsoftokn3.so\n"
           "leak:libfreebl\n"
           "leak:libnssutil3.so\n"
           "leak:libnspr4.so\n"
           "leak:libp11-kit.so\n"
           "leak:libp11.so\n";
}
