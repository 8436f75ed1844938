// SPDX-License-Identifier: Apache-2.0
#include "trainer/metrics.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <ostream>
#include <vector>

#include <nlohmann/json.hpp>

#include "kernels/error.h"

namespace farsight {
namespace {

constexpr const char* kCsvHeader =
    "step,split,loss,grad_norm,lr,tokens,tokens_per_s,flops_per_s,fraction_of_ceiling,memory_peak,data_wait_ms,"
    "comm_exposed_ms,checkpoint_stall_ms,entropy,bits_per_byte,mse,mae,checkpoint_failed\n";

void put(nlohmann::ordered_json& line, const char* key, const std::optional<double>& value) {
  if (!value) return;
  if (std::isfinite(*value)) {
    line[key] = *value;
  } else {
    line[key] = fmt::format("{}", *value);  // JSON has no NaN; a reader must still see that there was one
  }
}

std::string cell(const std::optional<double>& value) { return value ? fmt::format("{}", *value) : std::string(); }

std::string json_line(const StepMetrics& m) {
  nlohmann::ordered_json line;
  line["step"] = m.step;
  line["split"] = m.split;
  put(line, "loss", m.loss);
  put(line, "grad_norm", m.grad_norm);
  put(line, "lr", m.lr);
  line["tokens"] = m.tokens;
  put(line, "tokens_per_s", m.tokens_per_s);
  put(line, "flops_per_s", m.flops_per_s);
  put(line, "fraction_of_ceiling", m.fraction_of_ceiling);
  line["memory_peak"] = m.memory_peak;
  if (m.offloaded_peak > 0) line["offloaded_peak"] = m.offloaded_peak;
  put(line, "data_wait_ms", m.data_wait_ms);
  put(line, "comm_exposed_ms", m.comm_exposed_ms);
  put(line, "checkpoint_stall_ms", m.checkpoint_stall_ms);
  put(line, "entropy", m.entropy);
  put(line, "bits_per_byte", m.bits_per_byte);
  put(line, "mse", m.mse);
  put(line, "mae", m.mae);
  if (!m.checkpoint_failed.empty()) line["checkpoint_failed"] = m.checkpoint_failed;
  return line.dump() + "\n";
}

std::string csv_line(const StepMetrics& m) {
  std::string failed = m.checkpoint_failed;
  std::replace(failed.begin(), failed.end(), '"', '\'');
  return fmt::format("{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}\n", m.step, m.split, m.loss,
                     cell(m.grad_norm), cell(m.lr), m.tokens, cell(m.tokens_per_s), cell(m.flops_per_s),
                     cell(m.fraction_of_ceiling), m.memory_peak, cell(m.data_wait_ms), cell(m.comm_exposed_ms),
                     cell(m.checkpoint_stall_ms), cell(m.entropy), cell(m.bits_per_byte), cell(m.mse), cell(m.mae),
                     failed.empty() ? "" : "\"" + failed + "\"");
}

int64_t step_of_json(const std::string& line) {
  const auto parsed = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  return parsed.is_object() && parsed.contains("step") && parsed["step"].is_number_integer()
             ? parsed["step"].get<int64_t>()
             : INT64_MAX;  // a line cut short by a crash goes too
}

int64_t step_of_csv(const std::string& line) {
  int64_t step = 0;
  const char* end = line.data() + line.find_first_of(',');
  if (line.find(',') == std::string::npos || std::from_chars(line.data(), end, step).ec != std::errc())
    return INT64_MAX;
  return step;
}

// Keeps the lines up to a step, by way of a new file and a rename.
template <typename StepOf>
void cut_back(const std::string& path, int64_t last_step, bool header, StepOf step_of) {
  std::ifstream in(path);
  if (!in) return;
  const std::string temporary = path + ".tmp";
  std::ofstream out(temporary, std::ios::trunc);
  std::string line;
  if (header && std::getline(in, line)) out << line << '\n';
  while (std::getline(in, line)) {
    if (step_of(line) <= last_step) out << line << '\n';
  }
  out.close();
  if (!out) fail(ErrorKind::io, "{}: cannot be written; is the disk full?", temporary);
  std::filesystem::rename(temporary, path);
}

std::ofstream open_for_append(const std::string& path) {
  std::ofstream file(path, std::ios::app);
  if (!file) fail(ErrorKind::io, "{}: cannot be opened for writing", path);
  return file;
}

std::string with_unit(double value) {
  if (value >= 1e6) return fmt::format("{:.2f}M", value / 1e6);
  if (value >= 1e4) return fmt::format("{:.1f}k", value / 1e3);
  return fmt::format("{:.0f}", value);
}

}  // namespace

MetricsLog::MetricsLog(const std::string& directory, int64_t resumed_step) {
  const std::string json_path = directory + "/metrics.jsonl";
  const std::string csv_path = directory + "/metrics.csv";
  cut_back(json_path, resumed_step, /*header=*/false, step_of_json);
  cut_back(csv_path, resumed_step, /*header=*/true, step_of_csv);
  const bool fresh = !std::filesystem::exists(csv_path) || std::filesystem::file_size(csv_path) == 0;
  json_ = open_for_append(json_path);
  csv_ = open_for_append(csv_path);
  if (fresh) csv_ << kCsvHeader << std::flush;
}

void MetricsLog::write(const StepMetrics& metrics) {
  json_ << json_line(metrics) << std::flush;
  csv_ << csv_line(metrics) << std::flush;
  if (!json_ || !csv_) fail(ErrorKind::io, "metrics.jsonl: write failed; is the disk full?");
}

std::string show_duration(double seconds) {
  const auto s = static_cast<int64_t>(std::llround(std::max(0.0, seconds)));
  if (s < 60) return fmt::format("{}s", s);
  if (s < 3600) return fmt::format("{}m{:02d}s", s / 60, s % 60);
  return fmt::format("{}h{:02d}m", s / 3600, s / 60 % 60);
}

std::string show_bytes(int64_t bytes) {
  const auto b = static_cast<double>(bytes);
  if (b >= 10.0 * 1073741824.0) return fmt::format("{:.1f} GiB", b / 1073741824.0);
  if (b >= 1048576.0) return fmt::format("{:.0f} MiB", b / 1048576.0);
  return fmt::format("{:.0f} KiB", b / 1024.0);
}

std::string step_line(const StepMetrics& m, int64_t total_steps, double eta_s) {
  std::string line = fmt::format("step {}/{}  loss {:.4f}", m.step, total_steps, m.loss);
  if (m.grad_norm) line += fmt::format("  |g| {:.3g}", *m.grad_norm);
  if (m.lr) line += fmt::format("  lr {:.2e}", *m.lr);
  if (m.entropy) line += fmt::format("  H {:.3f}", *m.entropy);
  if (m.tokens_per_s) {
    line += fmt::format("  {} tok/s", with_unit(*m.tokens_per_s));
    if (m.fraction_of_ceiling) line += fmt::format(" ({:.0f}% of ceiling)", 100.0 * *m.fraction_of_ceiling);
  }
  return line + fmt::format("  mem {}  eta {}", show_bytes(m.memory_peak), show_duration(eta_s));
}

Console::Console(std::ostream& out, bool terminal, const std::string& log_path)
    : out_(out), terminal_(terminal), log_(log_path, std::ios::app) {}

void Console::clear_bar() {
  if (bar_) out_ << "\r\x1b[K";
  bar_ = false;
}

void Console::line(const std::string& text) {
  clear_bar();
  out_ << text << std::endl;
  log_ << text << std::endl;
}

void Console::progress(int64_t done, int64_t total, double eta_s) {
  if (!terminal_ || total <= 0) return;
  constexpr int64_t kWidth = 32;
  const int64_t filled = std::min(kWidth, kWidth * done / total);
  out_ << "\r\x1b[K[" << std::string(static_cast<size_t>(filled), '=')
       << std::string(static_cast<size_t>(kWidth - filled), ' ') << "] " << done << "/" << total << "  eta "
       << show_duration(eta_s) << std::flush;
  bar_ = true;
}

}  // namespace farsight
