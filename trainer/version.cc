// SPDX-License-Identifier: Apache-2.0
#include "trainer/version.h"

#include <boost/version.hpp>
#include <fmt/format.h>
#include <hdf5.h>
#include <isa-l.h>
#include <nlohmann/detail/abi_macros.hpp>
#include <openssl/crypto.h>
#include <toml++/impl/version.h>
#include <xxhash.h>
#include <zlib.h>
#include <zstd.h>

#include "kernels/matmul.h"
#include "parallel/mpi_comm.h"
#include "trainer/commit.h"

namespace farsight {
namespace {

std::string hdf5_version() {
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  return fmt::format("{}.{}.{}", major, minor, release);
}

std::string compiler() {
#if defined(__clang__)
  return fmt::format("clang {}", __clang_version__);
#else
  return fmt::format("g++ {}", __VERSION__);
#endif
}

}  // namespace

const char* version() { return FARSIGHT_VERSION; }
const char* version_commit() { return FARSIGHT_COMMIT; }

std::vector<std::pair<std::string, std::string>> build_facts() {
  return {{"compiler", compiler()},
          {"build type", FARSIGHT_BUILD_TYPE},
          {"message passing", mpi_library()},
          {"matrix products", matmul_library()},
          {"SIMD", "Highway " FARSIGHT_HIGHWAY_VERSION},
          {"HDF5", hdf5_version()},
          {"Boost", fmt::format("{}.{}.{}", BOOST_VERSION / 100000, BOOST_VERSION / 100 % 1000, BOOST_VERSION % 100)},
          {"toml++", fmt::format("{}.{}.{}", TOML_LIB_MAJOR, TOML_LIB_MINOR, TOML_LIB_PATCH)},
          {"fmt", fmt::format("{}.{}.{}", FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100)},
          {"zlib", zlibVersion()},
          {"zstd", ZSTD_versionString()},
          {"OpenSSL", OpenSSL_version(OPENSSL_VERSION)},
          {"xxHash", fmt::format("{}", XXH_versionNumber())},
          {"ISA-L", fmt::format("{}.{}.{}", ISAL_MAJOR_VERSION, ISAL_MINOR_VERSION, ISAL_PATCH_VERSION)}};
}

std::string version_text() {
  std::string text = fmt::format("farsight {} ({})\n", version(), version_commit());
  for (const auto& [what, value] : build_facts()) text += fmt::format("  {:<16} {}\n", what, value);
  return text;
}

}  // namespace farsight
