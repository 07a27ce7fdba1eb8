/* Lines "chain TAB kind TAB name" in, one line out for each: "ok TAB ascii" or "refused TAB text".
 * Run by agent_names.py, which knows what should come out; kind is "given name" or "surname". With
 * the argument "addresses": lines of addresses with TAB between, and "ok TAB address..." out. */
#include <stdio.h>
#include <string.h>

#include "agent/address.h"
#include "agent/name.h"
#include "crypto/mem.h"

static void say_refused(const struct pfx_error *err)
{
    printf("refused\t%s\n", err->text);
}

static void one_name(char *line)
{
    char *kind = strchr(line, '\t'), *name = kind ? strchr(kind + 1, '\t') : NULL;
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_names *names;
    char *ascii PFX_AUTOFREE = NULL;
    if (!name)
        pfx_die("a line without two tabs");
    *kind++ = '\0';
    *name++ = '\0';
    if (pfx_failed(pfx_names_open(line, &names, &err)))
        pfx_die(err.text);
    if (pfx_ok(pfx_names_ascii(names, kind, name, &ascii, &err)))
        printf("ok\t%s\n", ascii);
    else
        say_refused(&err);
    pfx_names_close(names);
}

static void some_addresses(char *line)
{
    PFX_AUTOSTRINGS struct pfx_strings proxies = {0}, list = {0};
    struct pfx_error err = PFX_ERROR_NONE;
    for (char *at = line; at;) {
        char *tab = strchr(at, '\t');
        if (tab)
            *tab = '\0';
        char *proxy PFX_AUTOFREE = pfx_asprintf("smtp:%s", at);
        pfx_strings_add(&proxies, proxy);
        at = tab ? tab + 1 : NULL;
    }
    if (pfx_failed(pfx_addresses(NULL, (const char *const *)proxies.v, proxies.n, &list, &err))) {
        say_refused(&err);
        return;
    }
    printf("ok");
    for (size_t i = 0; i < list.n; i++)
        printf("\t%s", list.v[i]);
    printf("\n");
}

int main(int argc, char **argv)
{
    static char line[16384];
    bool addresses = argc > 1 && strcmp(argv[1], "addresses") == 0;
    while (fgets(line, sizeof(line), stdin)) {
        line[strcspn(line, "\n")] = '\0';
        if (addresses)
            some_addresses(line);
        else
            one_name(line);
    }
    return 0;
}
