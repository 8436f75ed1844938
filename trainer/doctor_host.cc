// SPDX-License-Identifier: Apache-2.0
// The measurements and probes behind doctor.h.
#include <fcntl.h>
#include <sched.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

#include <fmt/format.h>

#include "kernels/cuda/library.h"
#include "kernels/fma_probe.h"
#include "kernels/matmul.h"
#include "kernels/parallel_for.h"
#include "kernels/random.h"
#include "parallel/mpi_comm.h"
#include "trainer/checkpoint/crc32c.h"
#include "trainer/config_value.h"
#include "trainer/doctor.h"

namespace farsight {
namespace {

constexpr int64_t kMiB = 1LL << 20;

int64_t allowed_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return sysconf(_SC_NPROCESSORS_ONLN);
  return CPU_COUNT(&set);
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Best of several products of a size that a training step uses, so that a disturbance does not count.
double measure_gemm() {
  constexpr int64_t n = 768;
  constexpr int repeats = 8;
  const std::vector<float> a(static_cast<size_t>(n * n), 1.0F), b(static_cast<size_t>(n * n), 0.5F);
  std::vector<float> c(static_cast<size_t>(n * n));
  double best = 0.0;
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    matmul(Transpose::no, Transpose::yes, n, n, n, 1.0F, a.data(), n, b.data(), n, 0.0F, c.data(), n);
    // The first product loads the library.
    if (i > 0) best = std::max(best, 2.0 * static_cast<double>(n * n * n) / seconds_since(start));
  }
  return best;
}

int64_t file_number(const char* path) {
  std::ifstream stream(path);
  std::string word;
  stream >> word;
  return parse_integer(word).value_or(-1);  // "max" and a missing file: no limit
}

int64_t available_memory() {
  std::ifstream stream("/proc/meminfo");
  std::string name, unit;
  std::string value;
  for (std::string line; std::getline(stream, line);) {
    std::istringstream words(line);
    words >> name >> value >> unit;
    if (name == "MemAvailable:") return parse_integer(value).value_or(-1) * 1024;
  }
  return -1;
}

std::string write_file(const std::string& path, int64_t bytes) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (file < 0) return std::strerror(errno);
  const std::vector<char> block(static_cast<size_t>(kMiB), 'x');
  std::string wrong;
  for (int64_t done = 0; done < bytes && wrong.empty(); done += kMiB)
    if (write(file, block.data(), block.size()) != static_cast<ssize_t>(block.size())) wrong = std::strerror(errno);
  if (wrong.empty() && fsync(file) != 0) wrong = std::strerror(errno);
  close(file);
  unlink(path.c_str());
  return wrong;
}

bool on_path(const std::string& program) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path == nullptr ? "" : path);
  for (std::string folder; std::getline(folders, folder, ':');)
    if (access((std::filesystem::path(folder) / program).c_str(), X_OK) == 0) return true;
  return false;
}

}  // namespace

RankReport examine_rank() {
  RankReport report;
  report.host = host_name();
  report.cores_allowed = allowed_cores();
  report.cores_online = sysconf(_SC_NPROCESSORS_ONLN);
  report.threads = thread_count();
  constexpr double probe_s = 0.1;
  report.fma_flops = measure_fma_peak(probe_s);
  report.gemm_flops = measure_gemm();
  return report;
}

DoctorCheck check_launcher() {
  DoctorCheck check{"launcher", CheckState::ok, "", ""};
  const bool mpirun = on_path("mpirun"), srun = on_path("srun");
  check.found = fmt::format("{}{}", mpirun ? "mpirun " : "", srun ? "srun" : "");
  if (mpirun || srun) return check;
  check.state = CheckState::warning;
  check.found = "neither mpirun nor srun is on the PATH: only one rank can be started";
  check.cure = "install openmpi-bin";
  return check;
}

DoctorCheck check_cuda() {
  const CudaLibrary& library = cuda_library();
  DoctorCheck check{"CUDA devices", CheckState::ok, "", ""};
  if (library.table == nullptr) {
    check.found = fmt::format("none ({}); runs use the CPU", library.reason);
    return check;
  }
  for (int32_t i = 0; i < library.devices; ++i) {
    CudaDeviceInfo info{};
    if (library.table->device_info(i, &info) != 0) {
      check.state = CheckState::warning;
      check.found += fmt::format("{}: {}; ", i, library.table->message());
      check.cure = "see that nvidia-smi lists the device and that no other program holds it exclusively";
      continue;
    }
    check.found += fmt::format("{}: {}, {} multiprocessors, capability {}.{}, {:.1f} GiB, bus {}; ", i, info.name,
                               info.multiprocessors, info.capability / 10, info.capability % 10,
                               static_cast<double>(info.total_bytes) / (1 << 30), info.bus_id);
  }
  check.found.resize(check.found.size() - 2);
  return check;
}

RankDevice device_of_rank(int64_t local_rank) {
  const CudaLibrary& library = cuda_library();
  CudaDeviceInfo info{};
  if (library.devices == 0) return {host_name(), ""};
  const auto index = static_cast<int32_t>(local_rank % library.devices);
  if (library.table->device_info(index, &info) != 0) return {host_name(), ""};
  return {host_name(), info.bus_id};
}

DoctorCheck check_memory() {
  const int64_t available = available_memory(), limit = file_number("/sys/fs/cgroup/memory.max");
  const int64_t usable = limit > 0 && limit < available ? limit : available;
  DoctorCheck check{"memory", CheckState::ok,
                    fmt::format("{:.1f} GiB available", static_cast<double>(usable) / (1 << 30)), ""};
  constexpr int64_t least = 256 * kMiB;
  if (usable < least) {
    check.state = CheckState::warning;
    check.cure = "end other programs: training needs more; `farsight plan CONFIG` says how much";
  }
  return check;
}

DoctorCheck check_disk(const std::string& folder) {
  constexpr int64_t bytes = 16 * kMiB;
  const std::string path = fmt::format("{}/.farsight-doctor-{}", folder, getpid());
  const auto start = std::chrono::steady_clock::now();
  const std::string wrong = write_file(path, bytes);
  const double seconds = seconds_since(start);
  struct statvfs facts {};
  const double free_gib = statvfs(folder.c_str(), &facts) != 0
                              ? 0.0
                              : static_cast<double>(facts.f_bavail) * static_cast<double>(facts.f_frsize) / (1 << 30);
  if (!wrong.empty())
    return {"disk", CheckState::failed, fmt::format("cannot write to '{}': {}", folder, wrong),
            "run in a folder that may be written, or set run.dir to one"};
  return {"disk", CheckState::ok,
          fmt::format("{:.0f} MB/s with fsync, {:.1f} GiB free", static_cast<double>(bytes) / 1e6 / seconds, free_gib),
          ""};
}

DoctorCheck check_vectors() {
  // CRC-32C: RFC 3720, B.4 and the usual check word. Philox4x32-10 of key 0 and counter 0: Random123's known answers.
  constexpr std::string_view digits = "123456789";
  const uint32_t crc = crc32c(digits);
  const PhiloxBlock block = philox(0, {0, 0, 0, 0});
  const bool crc_ok = crc == 0xE3069283U;
  const bool philox_ok = block == PhiloxBlock{0x6627e8d5U, 0xe169c58dU, 0xbc57ac4cU, 0x9b00dbd8U};
  if (crc_ok && philox_ok) return {"self-test", CheckState::ok, "CRC-32C and Philox vectors agree", ""};
  return {"self-test", CheckState::failed, fmt::format("{}{}", crc_ok ? "" : "CRC-32C ", philox_ok ? "" : "Philox"),
          "this build computes wrong values on this machine: rebuild, and report it"};
}

}  // namespace farsight
