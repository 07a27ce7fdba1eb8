pfx_unit(cli_parse pfx_cli)
pfx_unit(cli_text pfx_cli)
pfx_unit(cli_ask pfx_cli)
pfx_unit(cli_file pfx_cli)
pfx_unit(cli_log_line pfx_cli)
# The verbs of "log": folders made by tools/log_make.py, read and written by the real program.
add_executable(cli_log_tool unit/cli_log_tool.c)
target_link_libraries(cli_log_tool PRIVATE pfx_cli)
foreach(name IN ITEMS cli_log cli_log_export cli_log_export_faults cli_backup cli_guides)
    add_test(NAME ${name} COMMAND /usr/bin/python3 -B ${CMAKE_CURRENT_SOURCE_DIR}/unit/${name}.py)
    set_tests_properties(${name} PROPERTIES TIMEOUT 900 LABELS program ENVIRONMENT
        "PFX_AGENT=$<TARGET_FILE:pfx-agent>;PFX_AUDIT=$<TARGET_FILE:pfx-audit>;PFX_CLI_LOG_TOOL=$<TARGET_FILE:cli_log_tool>")
endforeach()
