# The simulators' own tests: each refusal refuses, each knob works.
add_test(NAME simulators COMMAND /usr/bin/python3 -B -m unittest discover -s
         ${CMAKE_CURRENT_SOURCE_DIR}/sim)
set_tests_properties(simulators PROPERTIES TIMEOUT 300 LABELS program)
