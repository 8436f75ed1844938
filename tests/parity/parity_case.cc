// SPDX-License-Identifier: Apache-2.0
#include "tests/parity/parity_case.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <utility>

#include "kernels/cuda/device.h"
#include "kernels/error.h"
#include "parallel/inproc_comm.h"
#include "parallel/nccl_comm.h"
#include "trainer/commands/data.h"

namespace farsight {

LayoutRun run_in_layout(const std::string& config_text, const std::vector<std::string>& layout, int ranks,
                        const DatasetFiles& files, int64_t steps, RunsOn place) {
  const Config config = parse_config(config_text, "parity.toml", layout);
  LayoutRun result;
  run_in_process(ranks, [&](Communicator& world) {
    std::optional<CudaDevice> cuda;
    std::optional<CudaScope> scope;
    if (place != RunsOn::cpu) scope.emplace(cuda.emplace(0));
    std::unique_ptr<Communicator> nccl;
    if (place == RunsOn::device_nccl) nccl = make_nccl_communicator(world, *cuda);
    LayoutRun run = run_layout(nccl ? *nccl : world, config, files, steps);
    if (world.rank() == 0) result = std::move(run);
  });
  return result;
}

std::string generated_corpus() {
  static const struct Folder {
    Folder() { std::filesystem::create_directories(path); }
    ~Folder() { std::filesystem::remove_all(path); }
    std::filesystem::path path =
        std::filesystem::temp_directory_path() / ("farsight-parity-" + std::to_string(::getpid()));
  } owned;
  static const std::string path = [] {
    const auto& folder = owned.path;
    const std::string text = (folder / "text.txt").string();
    std::ofstream out(text);
    uint64_t state = 1;
    const std::vector<std::string> words{"the", "ring",  "turns", "and",   "every",
                                         "key", "meets", "its",   "query", "once"};
    for (int line = 0; line < 1200; ++line) {
      for (int word = 0; word < 3 + line % 7; ++word) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        out << words[static_cast<size_t>(state >> 33) % words.size()] << ' ';
      }
      out << "\n\n";
    }
    out.close();
    const std::string file = (folder / "text.h5").string();
    std::ostringstream said;
    const int code = run_data_command(
        {"text", text, "--tokenizer=byte", "--document=blank-line", "--split=0.9/0.1", "--eod", "-o", file}, said,
        said);
    if (code != 0) fail(ErrorKind::internal, "data text failed: {}", said.str());
    return file;
  }();
  return path;
}

std::string shared_data(const std::string& name) {
  const char* root = std::getenv("FARSIGHT_DATA");
  const std::filesystem::path folder = root != nullptr ? root : "../shared/data";
  const auto path = folder / name;
  return std::filesystem::exists(path) ? path.string() : std::string();
}

}  // namespace farsight
