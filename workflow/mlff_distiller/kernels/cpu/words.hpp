// What is wrong, in words, for those who called.
#pragma once
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <string>

#include "neighbors.hpp"

namespace mlff {

// A caller's buffer for a message, or none; empty until something is said.
class Message {
 public:
  Message(char* text_, size_t size_) : text(text_), size(text_ ? size_ : 0) {
    if (size) text[0] = 0;
  }

#if defined(__GNUC__)
  __attribute__((format(printf, 2, 3)))
#endif
  void say(const char* words, ...) {
    if (!size) return;
    va_list values;
    va_start(values, words);
    std::vsnprintf(text, size, words, values);
    va_end(values);
  }

 private:
  char* text;
  size_t size;
};

// Three numbers as Python prints a list, but with fewer digits.
inline std::string listed(const double* x) {
  std::string all = "[";
  for (int k = 0; k < 3; ++k) {
    char one[40];
    std::snprintf(one, sizeof one, "%.9g", x[k]);
    all += std::string(k ? ", " : "") + (std::isnan(x[k]) ? "nan" : one);
  }
  return all + "]";
}

// Says what `failure` means; `position` [3] A is that of the atom `failure.where`, where that is what is wrong.
inline void explain(const Failure& failure, const double* position, Message& message) {
  const auto first = static_cast<long long>(failure.where), second = static_cast<long long>(failure.other);
  switch (failure.status) {
    case Status::ok:
      return;
    case Status::bad_position:
      message.say("atom %lld is at %s: not a finite position within 1e9 A; has the simulation blown up?", first,
                  listed(position).c_str());
      return;
    case Status::coinciding:
      message.say("atoms %lld and %lld coincide (or an atom meets its own image): there is no force between them", first,
                  second);
      return;
    case Status::bad_number:
      message.say("atom %lld has an atomic number that the student does not know", first);
      return;
    case Status::bad_cell:
      message.say("the periodic cell vectors of system %lld span no volume, or a cell too flat for the cutoff", first);
      return;
    case Status::bad_batch:
      message.say("batch must rise from 0 and stay below the number of systems; atom %lld breaks that", first);
      return;
    case Status::out_of_memory:
      message.say("not enough memory for a call of this size");
      return;
    case Status::too_close:
      if (first == second)
        message.say("atom %lld and its periodic image are %.3f A apart, closer than anything that the student learned (from "
                    "%.2f A): its energy would mean nothing. Mend the cell, or insist with mlff_allow(model, "
                    "MLFF_ALLOW_DISTANCES)", first, failure.distance, failure.shortest);
      else
        message.say("atoms %lld and %lld are %.3f A apart, closer than anything that the student learned (from %.2f A): its "
                    "energy would mean nothing. Mend the structure, take a smaller step, or insist with mlff_allow(model, "
                    "MLFF_ALLOW_DISTANCES)", first, second, failure.distance, failure.shortest);
      return;
  }
}

}  // namespace mlff
