# pfx-uploader: its pure parts, then the program against the simulators.
pfx_unit(uploader_retry pfx_uploader_parts)
pfx_unit(uploader_bucket pfx_uploader_parts)
pfx_unit(uploader_json pfx_uploader_parts)
pfx_unit(uploader_url pfx_uploader_parts)
pfx_unit(uploader_body pfx_uploader_parts)
pfx_unit(uploader_trouble pfx_uploader_parts)
foreach(part IN ITEMS flow faults lines)
    add_test(NAME uploader_${part} COMMAND /usr/bin/python3 -B
             ${CMAKE_CURRENT_SOURCE_DIR}/unit/uploader_${part}.py $<TARGET_FILE:pfx-uploader>)
    set_tests_properties(uploader_${part} PROPERTIES TIMEOUT 400)
endforeach()
