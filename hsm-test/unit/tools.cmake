# Helpers of the quick start and the end-to-end tests, not tests themselves.
add_executable(token-init tools/token-init.c)
target_link_libraries(token-init PRIVATE pfx_flags PkgConfig::P11KIT ${CMAKE_DL_LIBS})
