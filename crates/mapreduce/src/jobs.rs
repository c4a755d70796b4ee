//! The jobs that a program has of its own, by name.
//!
//! A program that is to run jobs of its own is its own driver and its own worker: the driver submits
//! a job's name and parameters, and each worker, which is the same program, makes the job of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::Job;
use crate::error::{TaskError, UserError};
use crate::spec::Application;
use crate::task::{Compiled, Program};

type Make = Box<dyn Fn(&[u8]) -> Result<Arc<dyn Program>, UserError> + Send + Sync>;

/// Jobs by name. Without any, a worker runs built-in jobs and commands only.
#[derive(Default)]
pub struct Jobs(BTreeMap<String, Make>);

impl Jobs {
    /// No jobs but the built-in ones.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a job. `make` makes it of the parameters that it was submitted with, in the driver and
    /// in each worker; it must make the same of the same.
    #[must_use]
    pub fn with<J: Job + 'static>(
        mut self,
        name: &str,
        make: impl Fn(&[u8]) -> Result<J, UserError> + Send + Sync + 'static,
    ) -> Self {
        let make: Make = Box::new(move |parameters| Ok(Arc::new(Compiled(make(parameters)?))));
        self.0.insert(name.to_owned(), make);
        self
    }

    /// What a worker runs for `application`.
    ///
    /// # Errors
    /// [`TaskError::Unfit`] if the job is none of these, [`TaskError::User`] if it cannot be made of
    /// its parameters.
    pub fn program(&self, application: &Application) -> Result<Arc<dyn Program>, TaskError> {
        let Application::Own { name, parameters } = application else {
            return application.built_in().ok_or_else(|| TaskError::Unfit("no such job".into()));
        };
        let make = self.0.get(name).ok_or_else(|| {
            TaskError::Unfit(format!(
                "this worker has no job `{name}`\nhint: run workers from the program that has it"
            ))
        })?;
        make(parameters).map_err(TaskError::from)
    }
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apps::Grep;

    #[test]
    fn a_job_is_made_of_its_name_and_its_parameters() {
        let jobs = Jobs::new().with("lines", |parameters| match parameters {
            b"" => Err(UserError::from("no pattern")),
            pattern => Ok(Grep::new(pattern, 1)),
        });
        let own = |name: &str, parameters: &[u8]| Application::Own {
            name: name.to_owned(),
            parameters: parameters.to_owned(),
        };
        assert!(jobs.program(&own("lines", b"x")).is_ok());
        assert!(matches!(jobs.program(&own("lines", b"")), Err(TaskError::User { .. })));
        assert!(matches!(jobs.program(&own("words", b"x")), Err(TaskError::Unfit(_))));
        assert!(jobs.program(&Application::WordCount).is_ok());
    }
}
