# Benchmarks: programs that print ratios against what limits them, never timed tests.
add_executable(bench-keys bench/keys.c)
target_link_libraries(bench-keys PRIVATE pfx_flags PkgConfig::P11KIT ${CMAKE_DL_LIBS})
add_executable(bench-entry-scan bench/entry_scan.c)
target_link_libraries(bench-entry-scan PRIVATE pfx_crypto)
add_executable(bench-audit bench/audit.c)
target_link_libraries(bench-audit PRIVATE pfx_flags PkgConfig::OPENSSL)
add_executable(bench-oplog bench/oplog.c)
target_link_libraries(bench-oplog PRIVATE pfx_oplog)
# What the log costs: the same program without it.
add_executable(pfx-hsm-unlogged ${CMAKE_SOURCE_DIR}/pkcs11/hsm/main.c bench/unlogged.c ${PFX_WIPE})
target_link_libraries(pfx-hsm-unlogged PRIVATE pfx_hsm)
target_link_options(pfx-hsm-unlogged PRIVATE
    -Wl,--wrap=pfx_oplog_append,--wrap=pfx_oplog_append_all,--wrap=pfx_oplog_wait
    -Wl,--wrap=pfx_hsmlog_agentd)
# The calls of an enrolment alone (enrolment.py), and a store with so many users (passes.py).
add_executable(bench-bare bench/bare.c ${PFX_WIPE})
target_link_libraries(bench-bare PRIVATE pfx_hsm)
