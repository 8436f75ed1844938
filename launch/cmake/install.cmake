# SPDX-License-Identifier: Apache-2.0
# Program, libraries with headers, and an exported CMake package: find_package(farsight).
install(TARGETS farsight RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS farsight_options farsight_kernels farsight_parallel farsight_data EXPORT farsight-targets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/farsight)
foreach(folder kernels parallel data)
  install(DIRECTORY ${folder} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/farsight FILES_MATCHING PATTERN "*.h")
endforeach()
install(EXPORT farsight-targets FILE farsight-targets.cmake NAMESPACE farsight::
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/farsight)
include(CMakePackageConfigHelpers)
configure_package_config_file(launch/cmake/farsight-config.cmake.in farsight-config.cmake
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/farsight)
write_basic_package_version_file(farsight-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/farsight-config.cmake ${CMAKE_BINARY_DIR}/farsight-config-version.cmake
              launch/cmake/FindDNNL.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/farsight)
