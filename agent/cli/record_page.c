/* The page of a ceremony, on its way from pfx-hsm to the operator's folder. */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/cli/cli.h"

int cli_folder_ok(const char *path, const char *option)
{
    struct pfx_error err = PFX_ERROR_NONE;
    struct stat st;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode) && access(path, W_OK | X_OK) == 0)
        return CLI_EXIT_OK;
    (void)!pfx_ok(pfx_fail(&err, PFX_CLASS_USAGE, "", "", "",
                           "%s isn't a folder that can be written to; name another with --%s", path,
                           option));
    return cli_fail(&err);
}

int cli_record_args(const struct cli *cli, struct pfx_msg *args)
{
    for (size_t i = 0; args && i < cli->n_witnesses; i++)
        pfx_msg_add_str(args, "witnesses", cli->witnesses[i]);
    return cli->given[CLI_RECORD] ? cli_folder_ok(cli->values[CLI_RECORD], "record") : CLI_EXIT_OK;
}

bool cli_record_item(const struct cli *cli, const struct pfx_msg *item, const char **ret_text,
                     int *ret_code)
{
    const char *folder = cli->values[CLI_RECORD];
    struct pfx_error err = PFX_ERROR_NONE;
    bool fresh = false;
    *ret_text = NULL;
    if (strcmp(pfx_msg_str(item, "kind"), "record") != 0)
        return false;
    const char *name = pfx_msg_str(item, "file"), *page = pfx_msg_str(item, "page");
    if (!name || !page)
        return true;
    if (folder && pfx_failed(cli_file_put(folder, name, page, &fresh, &err)))
        *ret_code = cli_fail(&err);
    else if (folder)
        cli_say("%s %s/%s", fresh ? "wrote" : "unchanged:", folder, name);
    if (strstr(name, ".txt")) /* the other form of it is told with this one */
        *ret_text = pfx_msg_str(item, "text");
    return true;
}
