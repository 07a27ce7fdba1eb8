/*
 * Answers to a sign-in: of Entra ID, of an Azure machine's metadata service, of the Azure Arc
 * agent. The first line says which; the rest is as in rig.h.
 */
#include "rig.h"

#include "api/uploader/graph.h"
#include "api/uploader/identity.h"
#include "api/uploader/setup_entra.h"

/* The Arc agent's file: its name is what the answer gave, its content ours. */
pfx_result __wrap_pfx_identity_key(const char *name, struct pfx_secret **ret_key,
                                   struct pfx_error *err);
pfx_result __wrap_pfx_identity_key(const char *name, struct pfx_secret **ret_key,
                                   struct pfx_error *err)
{
    must(!strchr(name, '/') && name[0] != '.' && strlen(name) < 200);
    if (name[0] == 'x')
        return pfx_fail(err, PFX_CLASS_REFUSED, "sign in", name, "", "It can't be opened.");
    return pfx_secret_copy("a2V5", 4, ret_key, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const ways[] = {"assertion",   "azure-vm", "azure-arc",
                                       "azure-vm-id", "usgov",    "china"};
    const struct pfx_kind *const tables[] = {pfx_graph_kinds, pfx_setup_entra_kinds};
    const struct rig_kinds kinds = {tables, 2};
    struct pfx_bytes rest = {data, size};
    struct pfx_bytes word = take_until(&rest, '\n');
    size_t way = any_of(word, 6);
    for (size_t i = 0; i < 6; i++)
        if (is_word(word, ways[i]))
            way = i;
    struct pfx_uploader_conf *conf = rig_conf();
    conf->sign_in = way == 2               ? PFX_SIGN_IN_AZURE_ARC
                    : way == 1 || way == 3 ? PFX_SIGN_IN_AZURE_VM
                                           : PFX_SIGN_IN_ASSERTION;
    conf->cloud = way == 4 ? PFX_CLOUD_USGOV : way == 5 ? PFX_CLOUD_CHINA : PFX_CLOUD_GLOBAL;
    conf->identity = way == 3 ? "6f9619ff-8b86-4011-b42d-00c04fc964ff" : NULL;
    rig_run(&pfx_ca_digicert, &kinds, rest);
    return 0;
}
