// SPDX-License-Identifier: Apache-2.0
#include "trainer/config_reader.h"

// The packaged library of toml++ 3.3 asserts on some malformed keys, which would end the program on a user's typing
// error (found by config_fuzz). Compiled here, its assertions become exceptions instead.
namespace farsight {
namespace {
struct TomlAssertion {};
constexpr void require_toml(bool condition) {
  if (!condition) throw TomlAssertion{};
}
}  // namespace
}  // namespace farsight
#undef NDEBUG
#undef TOML_HEADER_ONLY
#undef TOML_SHARED_LIB
#define TOML_HEADER_ONLY 1
#define TOML_ASSERT(condition) farsight::require_toml(static_cast<bool>(condition))

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include <fmt/format.h>
#include <toml++/toml.h>

#include "kernels/error.h"
#include "trainer/command_line.h"
#include "trainer/config_registry.h"

namespace farsight {
namespace {

constexpr size_t kLongestFile = 1U << 20;
constexpr size_t kMostFiles = 64;  // a diamond of bases would otherwise be read an exponential number of times
constexpr const char* kCommandLine = "command line";

std::string at(const std::string& file, const toml::source_region& region) {
  return fmt::format("{}:{}:{}", file, region.begin.line, region.begin.column);
}

class Reader {
 public:
  explicit Reader(ConfigProblems& problems) : problems_(problems) {}

  void file(const std::string& path, const std::string& named_at);
  void text(std::string_view text, const std::string& file_name);
  void override_key(const std::string& assignment);
  RawConfig take() { return std::move(result_); }

 private:
  void bases(const toml::node& node, const std::string& file_name);
  void base(const toml::node& node, const std::string& file_name);
  void section(const std::string& name, const toml::table& table, const std::string& file_name);
  void unknown_section(const std::string& name, const std::string& position);
  void unknown_key(const std::string& name, const std::string& position);
  ConfigValue value(const toml::node& node, const std::string& file_name);
  std::string expand(const std::string& text, const std::string& position);

  ConfigProblems& problems_;
  RawConfig result_;
  std::vector<std::filesystem::path> open_;  // chain of `extends`
  size_t files_ = 0;
};

std::string read_whole(const std::string& path, std::string& reason) {
  std::error_code code;
  if (std::filesystem::is_directory(path, code)) return reason = "it is a directory", "";
  std::ifstream stream(path, std::ios::binary);
  if (!stream) return reason = std::strerror(errno), "";
  std::string text;
  text.resize(kLongestFile + 1);
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(stream.gcount()));
  if (stream.bad()) reason = "it cannot be read";
  if (text.size() > kLongestFile) reason = "it is larger than 1 MiB; is it a configuration?";
  return text;
}

void Reader::file(const std::string& path, const std::string& named_at) {
  std::error_code code;
  const auto absolute = std::filesystem::weakly_canonical(path, code);
  if (std::find(open_.begin(), open_.end(), absolute) != open_.end()) {
    std::string chain;
    for (const auto& link : open_) chain += link.filename().string() + " -> ";
    return problems_.add(named_at,
                         fmt::format("'extends' goes round in a circle: {}{}", chain, absolute.filename().string()));
  }
  if (++files_ > kMostFiles)
    return problems_.add(named_at, fmt::format("'extends' reads more than {} files", kMostFiles));
  std::string reason;
  const std::string content = read_whole(path, reason);
  if (!reason.empty()) return problems_.add(named_at, fmt::format("cannot open '{}': {}", path, reason));
  open_.push_back(absolute);
  text(content, path);
  open_.pop_back();
}

void Reader::text(std::string_view text, const std::string& file_name) {
  toml::table table;
  try {
    table = toml::parse(text, std::string_view(file_name));
  } catch (const toml::parse_error& error) {
    return problems_.add(at(file_name, error.source()), std::string(error.description()));
  } catch (const TomlAssertion&) {
    return problems_.add(file_name,
                         "a key or value is malformed; look for stray characters around '=', '[' and quotes");
  }
  if (const toml::node* node = table.get("extends")) bases(*node, file_name);
  for (const auto& [key, node] : table) {
    const std::string name(key.str());
    if (name == "extends") continue;
    const bool known = !section_doc(name).empty();
    if (known && node.is_table())
      section(name, *node.as_table(), file_name);
    else if (known)
      problems_.add(at(file_name, node.source()), fmt::format("'{}' must be a table: [{}]", name, name));
    else
      unknown_section(name, at(file_name, key.source()));
  }
  result_.text = std::string(text);  // the outermost file is the last one to be finished
}

void Reader::bases(const toml::node& node, const std::string& file_name) {
  if (const toml::array* list = node.as_array())
    for (const toml::node& item : *list) base(item, file_name);
  else
    base(node, file_name);
}

void Reader::base(const toml::node& node, const std::string& file_name) {
  const std::string position = at(file_name, node.source());
  const auto name = node.value<std::string>();
  if (!name) return problems_.add(position, "'extends' must be a list of file names, for example [\"base.toml\"]");
  file((std::filesystem::path(file_name).parent_path() / expand(*name, position)).string(), position);
}

void Reader::section(const std::string& name, const toml::table& table, const std::string& file_name) {
  for (const auto& [key, node] : table) {
    const std::string full = name + "." + std::string(key.str());
    if (find_config_key(full) == nullptr)
      unknown_key(full, at(file_name, key.source()));
    else
      result_.values[full] = value(node, file_name);
  }
}

void Reader::unknown_section(const std::string& name, const std::string& position) {
  const std::string near = nearest_name(name, config_sections());
  const std::string hint = near.empty() ? key_suggestion(name) : "; did you mean '[" + near + "]'?";
  problems_.add(position, fmt::format("unknown section '{}'{}", name, hint));
}

void Reader::unknown_key(const std::string& name, const std::string& position) {
  if (is_planned_key(name)) return problems_.add(position, fmt::format("key '{}' is not in this build", name));
  problems_.add(position, fmt::format("unknown key '{}'{}", name, key_suggestion(name)));
}

const char* kind_text(toml::node_type type) {
  switch (type) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::date:
    case toml::node_type::time:
    case toml::node_type::date_time:
      return "a date or time";
    default:
      return "a value of another type";
  }
}

ConfigValue Reader::value(const toml::node& node, const std::string& file_name) {
  ConfigValue result;
  result.position = file_name == kCommandLine ? file_name : at(file_name, node.source());
  if (node.is_boolean()) {
    result.kind = ConfigValue::Kind::boolean;
    result.boolean = node.as_boolean()->get();
  } else if (node.is_integer()) {
    result.kind = ConfigValue::Kind::integer;
    result.integer = node.as_integer()->get();
  } else if (node.is_floating_point()) {
    result.kind = ConfigValue::Kind::real;
    result.real = node.as_floating_point()->get();
  } else if (node.is_string()) {
    result.kind = ConfigValue::Kind::text;
    result.text =
        file_name == kCommandLine ? node.as_string()->get() : expand(node.as_string()->get(), result.position);
  } else if (node.is_array()) {
    result.kind = ConfigValue::Kind::list;
    for (const toml::node& item : *node.as_array()) result.list.push_back(value(item, file_name));
  } else {
    result.text = kind_text(node.type());
  }
  return result;
}

std::string Reader::expand(const std::string& text, const std::string& position) {
  std::string result;
  size_t done = 0;
  for (size_t begin = text.find("${"); begin != std::string::npos; begin = text.find("${", done)) {
    const size_t end = text.find('}', begin);
    if (end == std::string::npos) {
      problems_.add(position, fmt::format("'{}' has no closing brace", text.substr(begin)));
      break;
    }
    const std::string name = text.substr(begin + 2, end - begin - 2);
    const char* found = std::getenv(name.c_str());
    if (found == nullptr) problems_.add(position, fmt::format("environment variable '{}' is not set", name));
    result += text.substr(done, begin - done) + (found == nullptr ? "" : found);
    done = end + 1;
  }
  return result + text.substr(done);
}

// What follows "key=" on a command line: TOML where it is TOML, otherwise a text that needs no quotes there.
ConfigValue override_value(const std::string& text) {
  ConfigValue value;
  value.kind = ConfigValue::Kind::text;
  value.text = text;
  value.position = kCommandLine;
  return value;
}

void Reader::override_key(const std::string& assignment) {
  const size_t equals = assignment.find('=');
  const std::string name = assignment.substr(0, equals);
  if (equals == std::string::npos)
    return problems_.add(kCommandLine, fmt::format("'--{}' needs a value: --{}=VALUE", name, name));
  if (find_config_key(name) == nullptr) return unknown_key(name, kCommandLine);
  const std::string text = assignment.substr(equals + 1);
  ConfigValue& target = result_.values[name] = override_value(text);
  if (text.find('\n') != std::string::npos) return;
  try {
    const toml::table table = toml::parse(std::string_view("value = " + text), std::string_view(kCommandLine));
    const toml::node* node = table.get("value");
    // "--run.name=2026" is a name: keys that hold text take the characters as they are.
    const bool literal = find_config_key(name)->type.find("text") != std::string::npos;
    const bool usable = node != nullptr && table.size() == 1 && (!literal || node->is_string() || node->is_array());
    if (usable) target = value(*node, kCommandLine);
  } catch (const toml::parse_error&) {
    target = override_value(text);
  } catch (const TomlAssertion&) {
    target = override_value(text);
  }
}

RawConfig finish(Reader& reader, const std::vector<std::string>& overrides) {
  for (const std::string& assignment : overrides) reader.override_key(assignment);
  RawConfig result = reader.take();
  if (!overrides.empty()) result.text += "\n# Given on the command line:\n";
  for (const std::string& assignment : overrides) result.text += "#   --" + assignment + "\n";
  return result;
}

}  // namespace

void ConfigProblems::add(const std::string& position, const std::string& text) {
  std::string line = position + ": error: ";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f)
      line += fmt::format("\\u{:04X}", byte);
    else
      line += c;
  }
  lines_.push_back(std::move(line));
}

void ConfigProblems::throw_if_any() const {
  std::string all;
  for (const std::string& line : lines_) all += (all.empty() ? "" : "\n") + line;
  if (!all.empty()) throw Error(ErrorKind::config, all);
}

RawConfig read_config_file(const std::string& path, const std::vector<std::string>& overrides,
                           ConfigProblems& problems) {
  Reader reader(problems);
  reader.file(path, path);
  return finish(reader, overrides);
}

RawConfig read_config_text(std::string_view text, const std::string& file_name,
                           const std::vector<std::string>& overrides, ConfigProblems& problems) {
  Reader reader(problems);
  reader.text(text, file_name);
  return finish(reader, overrides);
}

}  // namespace farsight
