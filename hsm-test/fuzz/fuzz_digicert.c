/* DigiCert's answers, to every kind of job: see rig.h. */
#include "rig.h"

#include "api/uploader/digicert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct pfx_kind *const tables[] = {pfx_ca_digicert.kinds};
    const struct rig_kinds kinds = {tables, 1};
    rig_run(&pfx_ca_digicert, &kinds, (struct pfx_bytes){data, size});
    return 0;
}
