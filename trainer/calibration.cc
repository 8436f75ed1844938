// SPDX-License-Identifier: Apache-2.0
#include "trainer/calibration.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <iterator>
#include <utility>

#include <nlohmann/json.hpp>

#include "kernels/error.h"

namespace farsight {
namespace {

// Bytes on the wire of a rank per byte of a call, for n ranks in a ring of messages.
double wire_share(CommPattern pattern, double n) {
  if (pattern == CommPattern::ring) return 1.0;
  return (pattern == CommPattern::all_reduce ? 2.0 : 1.0) * (n - 1.0) / n;
}

double messages(CommPattern pattern, double n) {
  if (pattern == CommPattern::ring) return 1.0;
  return (pattern == CommPattern::all_reduce ? 2.0 : 1.0) * (n - 1.0);
}

// Entries for 2 ranks; comm_seconds scales them.
void add_link(Calibration& c, bool across, double alpha, double bytes_per_s) {
  for (const CommPattern pattern : kCommPatterns) {
    c.comm.push_back({pattern, 2, across, {alpha * messages(pattern, 2.0), wire_share(pattern, 2.0) / bytes_per_s}});
  }
}

struct Number {
  const char* key;
  double Calibration::*member;
};
constexpr Number kNumbers[] = {{"peak_flops", &Calibration::peak_flops},
                               {"product_flops", &Calibration::product_flops},
                               {"product_bytes", &Calibration::product_bytes},
                               {"attention_forward", &Calibration::attention_forward},
                               {"attention_backward", &Calibration::attention_backward},
                               {"attention_half", &Calibration::attention_half},
                               {"memory_bytes", &Calibration::memory_bytes},
                               {"operation_s", &Calibration::operation_s},
                               {"overlap", &Calibration::overlap},
                               {"tensor_overlap", &Calibration::tensor_overlap},
                               {"slowdown", &Calibration::slowdown}};

CommPattern parse_pattern(const std::string& text) {
  for (const CommPattern pattern : kCommPatterns) {
    if (text == to_string(pattern)) return pattern;
  }
  throw std::invalid_argument("unknown pattern '" + text + "'");
}

void merge(Calibration& into, const CommRate& rate) {
  const auto same = [&](const CommRate& r) {
    return r.pattern == rate.pattern && r.ranks == rate.ranks && r.across == rate.across;
  };
  const auto found = std::find_if(into.comm.begin(), into.comm.end(), same);
  if (found == into.comm.end()) {
    into.comm.push_back(rate);
  } else {
    *found = rate;
  }
}

double positive(const nlohmann::json& value, const char* key) {
  const auto number = value.at(key).get<double>();
  if (!(number >= 0.0) || !std::isfinite(number)) throw std::invalid_argument(std::string(key) + " is negative");
  return number;
}

void read_json(const nlohmann::json& json, Calibration& into) {
  if (!json.is_object()) throw std::invalid_argument("not an object");
  if (json.contains("device")) into.device = json.at("device").get<std::string>();
  for (const Number& number : kNumbers) {
    if (json.contains(number.key)) into.*number.member = positive(json, number.key);
  }
  if (json.contains("concurrency")) into.concurrency = json.at("concurrency").get<int64_t>();
  if (json.contains("ranks_per_node")) into.ranks_per_node = json.at("ranks_per_node").get<int64_t>();
  for (const auto& entry : json.value("comm", nlohmann::json::array())) {
    CommRate rate{parse_pattern(entry.at("pattern").get<std::string>()),
                  entry.at("ranks").get<int64_t>(),
                  entry.value("across", false),
                  {positive(entry, "alpha_s"), positive(entry, "beta_s_per_byte")}};
    if (rate.ranks < 2) throw std::invalid_argument("ranks < 2");
    merge(into, rate);
  }
}

}  // namespace

Calibration h100_calibration() {
  Calibration c;
  c.device = "h100";
  c.precision = kMixedPrecision;
  c.peak_flops = 989e12;
  // Large bf16 products run at 58 % of the peak under the power limit, fused causal attention at 60 % and 57 % (600 and
  // 570 TFLOP/s, width 128, 8,192 tokens); streams reach 80 % of the memory, collectives 80 % of the links. Three
  // quarters of a tensor-parallel transfer hide behind the product it belongs to when both are cut into pieces.
  c.product_flops = 0.58 * 989e12;
  c.product_bytes = 0.80 * 3.35e12;
  c.attention_forward = 0.60 * 989e12;
  c.attention_backward = 0.57 * 989e12;
  c.attention_half = 256.0;
  c.memory_bytes = 0.80 * 3.35e12;
  c.operation_s = 4e-6;
  c.overlap = 0.9;
  c.tensor_overlap = 0.75;
  c.ranks_per_node = 8;
  add_link(c, /*across=*/false, 2e-6, 0.8 * 450e9);
  add_link(c, /*across=*/true, 5e-6, 0.8 * 50e9);
  return c;
}

Calibration default_cpu_calibration() {
  Calibration c;
  c.peak_flops = 100e9;
  c.product_flops = 80e9;
  c.product_bytes = 20e9;
  c.attention_forward = 65e9;
  c.attention_backward = 65e9;
  c.attention_half = 32.0;
  c.memory_bytes = 8e9;
  c.operation_s = 5e-6;
  add_link(c, /*across=*/false, 5e-6, 3e9);
  add_link(c, /*across=*/true, 30e-6, 1e9);
  return c;
}

Calibration run_calibration(const Config& config, bool cuda) {
  if (!cuda) return default_cpu_calibration();
  Calibration c = h100_calibration();
  if (config.train.precision == PrecisionChoice::bf16) return c;
  // fp32 on the ordinary units, 66.9 TFLOP/s; shares as large products reach them, attention by own kernels. Estimates.
  c.precision = kSinglePrecision;
  c.peak_flops = 66.9e12;
  c.product_flops = 0.75 * c.peak_flops;
  c.attention_forward = c.attention_backward = 0.4 * c.peak_flops;
  return c;
}

Calibration named_calibration(std::string_view device) {
  if (device == "h100") return h100_calibration();
  if (device == "cpu") return default_cpu_calibration();
  fail(ErrorKind::usage, "--device={} is unknown; available: cpu, h100, or a file with --calibration", device);
}

void parse_calibration(std::string_view text, const std::string& name, Calibration& into) {
  try {
    read_json(nlohmann::json::parse(text), into);
  } catch (const std::exception& error) {
    fail(ErrorKind::config, "{}: not a calibration as `farsight bench kernels --json` writes it: {}", name,
         error.what());
  }
}

void read_calibration(const std::string& path, Calibration& into) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(ErrorKind::io, "calibration '{}' cannot be read", path);
  parse_calibration(std::string(std::istreambuf_iterator<char>(file), {}), path, into);
}

std::string calibration_json(const Calibration& c) {
  nlohmann::ordered_json json;
  json["device"] = c.device;
  for (const Number& number : kNumbers) {
    if (c.*number.member > 0.0) json[number.key] = c.*number.member;
  }
  if (c.concurrency > 0) json["concurrency"] = c.concurrency;
  if (c.ranks_per_node > 0) json["ranks_per_node"] = c.ranks_per_node;
  for (const CommRate& r : c.comm) {
    json["comm"].push_back({{"pattern", to_string(r.pattern)},
                            {"ranks", r.ranks},
                            {"across", r.across},
                            {"alpha_s", r.cost.alpha_s},
                            {"beta_s_per_byte", r.cost.beta_s_per_byte}});
  }
  return json.dump(2) + "\n";
}

double comm_seconds(const Calibration& calibration, CommPattern pattern, int64_t ranks, bool across, double bytes) {
  if (ranks < 2) return 0.0;
  const CommRate* nearest = nullptr;
  double best = 0.0;
  for (const CommRate& rate : calibration.comm) {
    if (rate.pattern != pattern) continue;
    const double ratio = std::abs(std::log(static_cast<double>(rate.ranks) / static_cast<double>(ranks)));
    const double distance = ratio + (rate.across == across ? 0.0 : 1e3);
    if (nearest != nullptr && distance >= best) continue;
    nearest = &rate;
    best = distance;
  }
  if (nearest == nullptr) return 0.0;
  const auto n = static_cast<double>(ranks), m = static_cast<double>(nearest->ranks);
  const double alpha = nearest->cost.alpha_s * messages(pattern, n) / messages(pattern, m);
  const double beta = nearest->cost.beta_s_per_byte * wire_share(pattern, n) / wire_share(pattern, m);
  return alpha + beta * bytes;
}

double product_seconds(const Calibration& c, double m, double n, double k) {
  const double bytes = (m * k + k * n + m * n) * static_cast<double>(c.precision.activation);
  return 2.0 * m * n * k / c.product_flops + bytes / c.product_bytes + c.operation_s;
}

double memory_seconds(const Calibration& c, double bytes) { return bytes / c.memory_bytes + c.operation_s; }

double attention_seconds(const Calibration& c, double flops, double keys, double borders, bool backward) {
  const double rate = backward ? c.attention_backward : c.attention_forward;
  return flops / rate * (keys + borders * c.attention_half) / std::max(keys, 1.0) + c.operation_s;
}

}  // namespace farsight
