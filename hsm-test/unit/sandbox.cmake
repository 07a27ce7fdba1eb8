# The sandbox from inside: a library that climbs, in the real processes.
add_library(sandbox_climb MODULE unit/sandbox_climb.c)
set_target_properties(sandbox_climb PROPERTIES PREFIX "")
target_compile_definitions(sandbox_climb PRIVATE _GNU_SOURCE)
target_link_libraries(sandbox_climb PRIVATE ${CMAKE_DL_LIBS})
# Sanitizer builds have a wider sandbox, and want to be loaded before any other library.
if(NOT PFX_SANITIZE)
    add_test(NAME sandbox_climb COMMAND /usr/bin/python3 -B
             ${CMAKE_CURRENT_SOURCE_DIR}/unit/sandbox_climb.py)
    set_tests_properties(sandbox_climb PROPERTIES TIMEOUT 300 SKIP_RETURN_CODE 77 ENVIRONMENT
        "PFX_AGENTD=$<TARGET_FILE:pfx-agentd>;PFX_HSM=$<TARGET_FILE:pfx-hsm>;PFX_UPLOADER=$<TARGET_FILE:pfx-uploader>;PFX_CLIMB=$<TARGET_FILE:sandbox_climb>;PFX_TOKEN_INIT=$<TARGET_FILE:token-init>;PFX_TOKEN=softhsm")
endif()
