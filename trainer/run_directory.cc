// SPDX-License-Identifier: Apache-2.0
#include "trainer/run_directory.h"

#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "kernels/matmul.h"
#include "kernels/parallel_for.h"
#include "parallel/mpi_comm.h"
#include "trainer/file_system.h"
#include "trainer/version.h"

namespace farsight {
namespace {

namespace fs = std::filesystem;

std::string utc_now() {
  const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
  const std::chrono::year_month_day day(std::chrono::floor<std::chrono::days>(now));
  const std::chrono::hh_mm_ss time(now - std::chrono::floor<std::chrono::days>(now));
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", static_cast<int>(day.year()),
                     static_cast<unsigned>(day.month()), static_cast<unsigned>(day.day()), time.hours().count(),
                     time.minutes().count(), time.seconds().count());
}

std::string environment_json(const std::string& layout, int ranks) {
  nlohmann::ordered_json e;
  e["started"] = utc_now();
  e["version"] = version();
  e["build"] = version_text();
  e["host"] = host_name();
  e["ranks"] = ranks;
  e["threads_per_rank"] = thread_count();
  e["layout"] = layout;
  e["mpi"] = mpi_library();
  e["matmul"] = matmul_library();
  for (const char* name : {"SLURM_JOB_ID", "SLURM_RESTART_COUNT", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"}) {
    if (const char* value = std::getenv(name)) e["variables"][name] = value;
  }
  return e.dump(2) + "\n";
}

std::string joined(const std::vector<std::string>& words) {
  std::string line;
  for (const auto& word : words) {
    const bool plain = word.find_first_of(" '\"$\\") == std::string::npos && !word.empty();
    line += (line.empty() ? "" : " ") + (plain ? word : "'" + word + "'");
  }
  return line + "\n";
}

}  // namespace

void describe_run(const Config& config, const std::vector<std::string>& command_line, const std::string& layout,
                  int ranks) {
  const auto files = make_posix_file_system();
  const std::string dir = config.run.dir;
  make_directories(*files, dir);
  replace_file(*files, dir + "/config.toml", to_toml(config));
  replace_file(*files, dir + "/config.input.toml", config.input);
  replace_file(*files, dir + "/environment.json", environment_json(layout, ranks));
  replace_file(*files, dir + "/command.txt", joined(command_line));
}

RunReference find_run(const std::string& path) {
  const fs::path given = fs::path(path).lexically_normal();
  const fs::path trimmed = given.has_filename() ? given : given.parent_path();
  if (fs::exists(trimmed / "config.toml")) return {trimmed.string(), ""};
  if (fs::exists(trimmed / "MANIFEST")) {
    const fs::path run = trimmed.parent_path().parent_path();
    if (fs::exists(run / "config.toml")) return {run.empty() ? "." : run.string(), trimmed.string()};
  }
  fail(ErrorKind::data,
       "'{}' is neither a run directory (no config.toml) nor one of its checkpoints (no MANIFEST); pass the directory "
       "that "
       "'farsight train' named, e.g. runs/NAME",
       path);
}

Config run_config(const RunReference& run) { return load_config(run.directory + "/config.toml"); }

}  // namespace farsight
