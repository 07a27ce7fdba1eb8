/* Rules, counts and the control socket's language. */
#include "hsm-test/cryptoki/faults.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct tt_shared *tt_shared;

static const struct {
    const char *name;
} actions[] = {
#define ACTION(number, text) [TT_ACT_##number] = {text},
    TT_ACTIONS(ACTION)
#undef ACTION
};
#define N_ACTIONS (sizeof actions / sizeof actions[0])

void tt_shared_new(void)
{
    tt_shared = mmap(NULL, sizeof *tt_shared, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (tt_shared == MAP_FAILED)
        abort();
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&tt_shared->lock, &attr);
    pthread_mutexattr_destroy(&attr);
}

void tt_lock(void)
{
    if (pthread_mutex_lock(&tt_shared->lock) == EOWNERDEAD)
        pthread_mutex_consistent(&tt_shared->lock);
}

void tt_unlock(void)
{
    pthread_mutex_unlock(&tt_shared->lock);
}

enum tt_action tt_call_begin(enum tt_function function, unsigned long *ret_value,
                             unsigned long *ret_record)
{
    enum tt_action action = TT_ACT_NONE;
    tt_lock();
    tt_shared->counts[function]++;
    *ret_record = tt_shared->n_calls++;
    tt_shared->calls[*ret_record % TT_MAX_CALLS] =
        (struct tt_call_record){.function = function,
                                .app = (unsigned)getpid(),
                                .mechanism = CK_UNAVAILABLE_INFORMATION,
                                .rv = CK_UNAVAILABLE_INFORMATION};
    for (size_t i = 0; i < TT_MAX_RULES; i++) {
        struct tt_rule *rule = &tt_shared->rules[i];
        if (rule->id == 0 || (rule->function != TT_ANY && rule->function != function))
            continue;
        rule->seen++;
        if (action != TT_ACT_NONE || rule->seen < rule->first || rule->seen > rule->last)
            continue;
        rule->fired++;
        action = rule->action;
        *ret_value = rule->value;
    }
    tt_unlock();
    return action;
}

void tt_call_mechanism(unsigned long record, CK_ULONG mechanism)
{
    tt_lock();
    tt_shared->calls[record % TT_MAX_CALLS].mechanism = mechanism;
    tt_unlock();
}

void tt_call_end(unsigned long record, CK_RV rv)
{
    tt_lock();
    tt_shared->calls[record % TT_MAX_CALLS].rv = rv;
    tt_unlock();
}

void tt_hang(void)
{
    tt_lock();
    unsigned clears = tt_shared->clears;
    tt_unlock();
    for (bool cleared = false; !cleared;) {
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        tt_lock();
        cleared = tt_shared->clears != clears;
        tt_unlock();
    }
}

/* "3", "3+", "3-5", "every" */
static bool when_of(const char *text, unsigned long *ret_first, unsigned long *ret_last)
{
    char *end = NULL;
    if (strcmp(text, "every") == 0) {
        *ret_first = 1;
        *ret_last = ~0UL;
        return true;
    }
    *ret_first = *ret_last = strtoul(text, &end, 10);
    if (end == text || *ret_first == 0)
        return false;
    if (strcmp(end, "+") == 0) {
        *ret_last = ~0UL;
        return true;
    }
    if (*end == '-') {
        const char *second = end + 1;
        *ret_last = strtoul(second, &end, 10);
        return end != second && *end == '\0' && *ret_last >= *ret_first;
    }
    return *end == '\0';
}

static const char *add(const char *function, const char *when, char *action, unsigned *ret_id)
{
    struct tt_rule rule = {0};
    rule.function = strcmp(function, "*") == 0 ? TT_ANY : tt_function_of(function);
    if (rule.function == TT_COUNT && strcmp(function, "*") != 0)
        return "no such function";
    if (!when_of(when, &rule.first, &rule.last))
        return "when: N, N+, N-M or every";
    char *value = strchr(action, '='), *end = NULL;
    if (value) {
        *value++ = '\0';
        rule.value = strtoul(value, &end, 0);
        if (end == value || *end)
            return "the value behind = isn't a number";
    }
    for (size_t i = 1; i < N_ACTIONS; i++) {
        if (strcmp(actions[i].name, action) == 0)
            rule.action = (enum tt_action)i;
    }
    if (rule.action == TT_ACT_NONE)
        return "no such action";
    if (!value && (rule.action == TT_ACT_RV || rule.action == TT_ACT_RV_AFTER))
        return "rv wants a value";
    const char *why = "too many rules";
    tt_lock();
    for (size_t i = 0; i < TT_MAX_RULES && why; i++) {
        if (tt_shared->rules[i].id)
            continue;
        rule.id = *ret_id = ++tt_shared->last_id;
        tt_shared->rules[i] = rule;
        why = NULL;
    }
    tt_unlock();
    return why;
}

static void clear(unsigned long id)
{
    tt_lock();
    for (size_t i = 0; i < TT_MAX_RULES; i++) {
        if (id == 0 || tt_shared->rules[i].id == id)
            tt_shared->rules[i] = (struct tt_rule){0};
    }
    tt_shared->clears++;
    tt_unlock();
}

static void print_rules(FILE *out)
{
    for (size_t i = 0; i < TT_MAX_RULES; i++) {
        tt_lock();
        struct tt_rule rule = tt_shared->rules[i];
        tt_unlock();
        if (rule.id)
            fprintf(out, "%u %s %lu-%lu %s=0x%lx seen %lu fired %lu\n", rule.id,
                    rule.function == TT_ANY ? "*" : tt_name(rule.function), rule.first, rule.last,
                    actions[rule.action].name, rule.value, rule.seen, rule.fired);
    }
}

static void print_calls(FILE *out)
{
    tt_lock();
    unsigned long n = tt_shared->n_calls, i = n > TT_MAX_CALLS ? n - TT_MAX_CALLS : 0;
    tt_unlock();
    for (; i < n; i++) {
        tt_lock();
        struct tt_call_record call = tt_shared->calls[i % TT_MAX_CALLS];
        tt_unlock();
        fprintf(out, "%lu %u %s", i + 1, call.app, tt_name(call.function));
        if (call.rv == CK_UNAVAILABLE_INFORMATION)
            fputs(" -", out);
        else
            fprintf(out, " 0x%lx", call.rv);
        if (call.mechanism != CK_UNAVAILABLE_INFORMATION)
            fprintf(out, " 0x%lx", call.mechanism);
        fputc('\n', out);
    }
}

static void print_counts(FILE *out)
{
    tt_lock();
    for (unsigned i = 0; i < TT_COUNT; i++) {
        if (tt_shared->counts[i])
            fprintf(out, "%s %lu\n", tt_name(i), tt_shared->counts[i]);
    }
    tt_unlock();
}

static void set_gone(bool gone)
{
    tt_lock();
    tt_shared->gone = gone;
    tt_unlock();
}

void tt_control(char *line, FILE *out, void (*kill_apps)(void))
{
    char *save = NULL, *word[4] = {NULL};
    for (size_t i = 0; i < 4; i++)
        word[i] = strtok_r(i ? NULL : line, " \r\n", &save);
    const char *verb = word[0] ? word[0] : "", *why = NULL;
    unsigned id = 0;
    if (strcmp(verb, "fault") == 0 && word[3]) {
        why = add(word[1], word[2], word[3], &id);
        if (!why)
            fprintf(out, "rule %u\n", id);
    } else if (strcmp(verb, "clear") == 0) {
        clear(word[1] ? strtoul(word[1], NULL, 10) : 0);
    } else if (strcmp(verb, "rules") == 0) {
        print_rules(out);
    } else if (strcmp(verb, "calls") == 0) {
        print_calls(out);
    } else if (strcmp(verb, "counts") == 0) {
        print_counts(out);
    } else if (strcmp(verb, "reset") == 0) {
        tt_lock();
        memset(tt_shared->counts, 0, sizeof tt_shared->counts);
        tt_shared->n_calls = 0;
        tt_unlock();
    } else if (strcmp(verb, "needles") == 0) {
        tt_lock();
        fwrite(tt_shared->needle, 1, tt_shared->needle_len, out);
        tt_unlock();
    } else if (strcmp(verb, "forget-needles") == 0) {
        tt_lock();
        explicit_bzero(tt_shared->needle, tt_shared->needle_len);
        tt_shared->needle_len = 0;
        tt_unlock();
    } else if (strcmp(verb, "die") == 0) {
        kill_apps();
    } else if (strcmp(verb, "vanish") == 0) {
        set_gone(true);
        kill_apps();
    } else if (strcmp(verb, "back") == 0) {
        set_gone(false);
    } else {
        why = "fault FUNCTION WHEN ACTION[=VALUE], clear [ID], rules, calls, counts, reset, die, "
              "vanish, back, needles, forget-needles";
    }
    if (why)
        fprintf(out, "error %s\n", why);
    else
        fputs("ok\n", out);
}
