# Benchmarks: programs that print ratios against what limits them, never timed tests.
add_executable(bench-keys bench/keys.c)
target_link_libraries(bench-keys PRIVATE pfx_flags PkgConfig::P11KIT ${CMAKE_DL_LIBS})
add_executable(bench-entry-scan bench/entry_scan.c)
target_link_libraries(bench-entry-scan PRIVATE pfx_crypto)
add_executable(bench-audit bench/audit.c)
target_link_libraries(bench-audit PRIVATE pfx_flags PkgConfig::OPENSSL)
add_executable(bench-oplog bench/oplog.c)
target_link_libraries(bench-oplog PRIVATE pfx_oplog)
