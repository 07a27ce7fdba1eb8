# Benchmarks: programs that print ratios against what limits them, never timed tests.
add_executable(bench-keys bench/keys.c)
target_link_libraries(bench-keys PRIVATE pfx_flags PkgConfig::P11KIT ${CMAKE_DL_LIBS})
