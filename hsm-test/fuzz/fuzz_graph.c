/* Answers of Graph and Exchange, to every kind of job, and those to `setup entra`: see rig.h. */
#include "rig.h"

#include "api/uploader/exchange.h"
#include "api/uploader/graph.h"
#include "api/uploader/setup_entra.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct pfx_kind *const tables[] = {pfx_graph_kinds, pfx_exchange_kinds,
                                             pfx_setup_entra_kinds};
    const struct rig_kinds kinds = {tables, 3};
    rig_signed_in = true;
    rig_run(&pfx_ca_digicert, &kinds, (struct pfx_bytes){data, size});
    return 0;
}
