# What the memory and the files of the three programs hold; hsm-test/secrecy/secrecy.py. A sanitizer's
# malloc doesn't wipe what is given back, so it is the release build's.
if(NOT PFX_SANITIZE)
    add_executable(secrecy-scan ${CMAKE_CURRENT_LIST_DIR}/../secrecy/scan.c)
    target_link_libraries(secrecy-scan PRIVATE pfx_flags)
    target_compile_definitions(secrecy-scan PRIVATE _GNU_SOURCE)
    add_test(NAME secrecy COMMAND ${PFX_PYTHON3} -B
             ${CMAKE_CURRENT_LIST_DIR}/../secrecy/secrecy.py)
    set_tests_properties(secrecy PROPERTIES TIMEOUT 3600 SKIP_RETURN_CODE 77 ENVIRONMENT
        "PFX_BUILD=${CMAKE_BINARY_DIR};PFX_SCAN=$<TARGET_FILE:secrecy-scan>")
endif()
