# Helpers of the quick start and the end-to-end tests, not tests themselves.
add_executable(token-init tools/token-init.c)
target_link_libraries(token-init PRIVATE pfx_flags PkgConfig::P11KIT ${CMAKE_DL_LIBS})
# The tables of the socket protocol as JSON: what the hostile_* tests make their lies from.
add_executable(wire-tables tools/wire-tables.c)
target_link_libraries(wire-tables PRIVATE pfx_wire)
