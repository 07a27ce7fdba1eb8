/*
 * pfx-audit verify again and again in one process, for tests that ask it thousands of times.
 *
 * Each line of standard input is one call: "verify --json" with these words, with a tab between:
 * KEY-FILE[,KEY-FILE] SINCE UNTIL ANCHOR DIR [DIR...]; "-" for none. Its JSON is one line of
 * output.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/audit/audit.h"

/* In pfx-audit's main.c. */
int pfx_audit_fail(const struct pfx_error *err)
{
    char line[1024];
    pfx_error_line(err, line, sizeof(line));
    for (char *c = line; *c; c++)
        if (*c == '"' || *c == '\\' || (unsigned char)*c < 0x20)
            *c = ' ';
    printf("{\"exit\":%d,\"error\":\"%s\"}\n", pfx_class_exit(err->cls), line);
    return pfx_class_exit(err->cls);
}

static const char *given(const char *word)
{
    return word && strcmp(word, "-") != 0 ? word : NULL;
}

int main(void)
{
    char *line = NULL;
    size_t room = 0;
    for (ssize_t len; (len = getline(&line, &room, stdin)) > 0;) {
        const char *words[32] = {NULL}, *keys[8];
        size_t n = 0;
        struct pfx_audit_options options = {.format = PFX_AUDIT_JSON, .keys = keys};
        line[len - 1] = '\0';
        char *rest = line;
        for (char *word; n < 32 && (word = strsep(&rest, "\t"));)
            words[n++] = word;
        if (n < 5)
            return 2;
        char *list = strdup(words[0]), *at = list;
        for (char *file; options.n_keys < 8 && (file = strsep(&at, ","));)
            keys[options.n_keys++] = file;
        options.since = given(words[1]);
        options.until = given(words[2]);
        options.anchor = given(words[3]);
        options.operands = words + 4;
        options.n_operands = n - 4;
        (void)pfx_audit_verify(&options);
        fflush(stdout);
        free(list);
    }
    free(line);
    return 0;
}
