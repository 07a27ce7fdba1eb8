# pfx-uploader: its pure parts, then the program against the simulators.
pfx_unit(uploader_retry pfx_uploader_parts)
pfx_unit(uploader_bucket pfx_uploader_parts)
pfx_unit(uploader_co pfx_uploader_parts)
pfx_unit(uploader_json pfx_uploader_parts)
pfx_unit(uploader_url pfx_uploader_parts)
pfx_unit(uploader_body pfx_uploader_parts)
pfx_unit(uploader_trouble pfx_uploader_parts)
pfx_unit(uploader_route pfx_uploader_parts)
pfx_unit(uploader_roles pfx_uploader_parts)
foreach(part IN ITEMS flow faults network remove orders setup cmp cmp_mock signin identity lines http2
        proxy dns)
    add_test(NAME uploader_${part} COMMAND /usr/bin/python3 -B
             ${CMAKE_CURRENT_SOURCE_DIR}/unit/uploader_${part}.py $<TARGET_FILE:pfx-uploader>)
    set_tests_properties(uploader_${part} PROPERTIES TIMEOUT 400 LABELS program)
endforeach()
# Needs namespaces of its own, and with them root.
set_tests_properties(uploader_identity uploader_dns PROPERTIES SKIP_RETURN_CODE 77)
if(NOT PFX_SANITIZE) # which keep what is freed; the release build shows it
    # The control: the same program without crypto/wipe.c.
    add_executable(uploader_unwiped ${CMAKE_SOURCE_DIR}/api/uploader/main.c)
    target_link_libraries(uploader_unwiped PRIVATE pfx_uploader_parts)
    add_test(NAME uploader_memory COMMAND /usr/bin/python3 -B
             ${CMAKE_CURRENT_SOURCE_DIR}/unit/uploader_memory.py $<TARGET_FILE:pfx-uploader>
             $<TARGET_FILE:uploader_unwiped>)
    set_tests_properties(uploader_memory PROPERTIES TIMEOUT 120 SKIP_RETURN_CODE 77)
endif()
set_tests_properties(uploader_proxy PROPERTIES SKIP_RETURN_CODE 77)
