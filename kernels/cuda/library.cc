// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/library.h"

#include <dlfcn.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <cstdlib>
#include <vector>

#include <fmt/format.h>

namespace farsight {
namespace {

constexpr const char* kName = "libfarsight_cuda.so";

std::string program_folder() {
  std::array<char, PATH_MAX> buffer{};
  const ssize_t length = readlink("/proc/self/exe", buffer.data(), buffer.size());
  const std::string path(buffer.data(), length < 0 ? 0 : static_cast<size_t>(length));
  return path.substr(0, path.rfind('/'));
}

std::vector<std::string> candidates() {
  if (const char* named = std::getenv("FARSIGHT_CUDA_PLUGIN")) return {named};
  const std::string folder = program_folder();
  return {folder + "/" + kName, folder + "/../lib/" + kName};
}

// Fills in table and devices, or the reason.
void use(void* handle, CudaLibrary& library) {
  const auto entry = reinterpret_cast<CudaBackendEntry>(dlsym(handle, "farsight_cuda_backend"));
  const CudaBackend* table = entry == nullptr ? nullptr : entry(kCudaAbi);
  if (table == nullptr || table->abi != kCudaAbi || table->bytes != sizeof(CudaBackend)) {
    library.reason = fmt::format("{} is not of this build of farsight; build and install both together", library.path);
    return;
  }
  int32_t devices = 0;
  if (table->device_count(&devices) != 0) {
    library.reason = fmt::format("no CUDA device: {}; is the NVIDIA driver installed?", table->message());
    return;
  }
  if (devices == 0) {
    library.reason = "no CUDA device is visible; is CUDA_VISIBLE_DEVICES empty?";
    return;
  }
  library.table = table;
  library.devices = devices;
}

}  // namespace

CudaLibrary open_cuda_library(const std::string& path) {
  CudaLibrary library;
  const auto paths = path.empty() ? candidates() : std::vector<std::string>{path};
  for (const auto& candidate : paths) {
    if (access(candidate.c_str(), F_OK) != 0) continue;
    library.path = candidate;
    // Never closed: what it registers with the CUDA runtime lives as long as the process.
    void* handle = dlopen(candidate.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
      library.reason = fmt::format("{}; LD_LIBRARY_PATH must name the folders of the CUDA libraries", dlerror());
      return library;
    }
    use(handle, library);
    return library;
  }
  library.reason = fmt::format("{} was not found (at {}); build the preset 'cuda'", kName, fmt::join(paths, ", "));
  return library;
}

const CudaLibrary& cuda_library() {
  static const CudaLibrary library = open_cuda_library("");
  return library;
}

}  // namespace farsight
