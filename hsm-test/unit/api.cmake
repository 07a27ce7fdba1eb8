# The socket protocol and the configuration.
pfx_unit(wire_json pfx_wire)
pfx_unit(wire_decode pfx_wire)
pfx_unit(wire_encode pfx_wire)
pfx_unit(wire_tables pfx_wire)
pfx_unit(wire_conn pfx_wire)
pfx_unit(wire_sock pfx_wire)
add_library(wire_agent STATIC ${CMAKE_CURRENT_LIST_DIR}/wire_agent.c)
target_link_libraries(wire_agent PUBLIC pfx_wire PkgConfig::CMOCKA)
pfx_unit(wire_arm wire_agent)
pfx_unit(conf_agent pfx_conf)
pfx_unit(conf_trusted pfx_conf)
pfx_unit(conf_file pfx_conf)
pfx_unit(conf_process pfx_conf)
pfx_unit(conf_notify pfx_conf)
# The reader of the operation log's folder, on a log that another program made.
pfx_unit(logdir pfx_logdir)
target_compile_definitions(logdir PRIVATE
    LOG_MAKE="${CMAKE_CURRENT_LIST_DIR}/../tools/log_make.py")
